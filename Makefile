# Seven short names for what is done most often; everything is in hack/. ARGS is passed on: make unit ARGS="-k policy".

.PHONY: unit test full tables install release demo

unit: ## linter, types and unit tests; no root
	hack/test.sh unit $(ARGS)

test: ## what continuous integration runs; as root
	hack/test.sh $(ARGS)

full: ## everything, in every environment; as root, far longer than test
	hack/test.sh full $(ARGS)

tables: ## the tables of docs/configuration.md, from runtime/config/schema.py
	hack/config-table.py --write $(ARGS)

install: ## below /usr/local, or ARGS="--prefix DIR"
	hack/install.sh $(ARGS)

release: ## one file for nodes without Python, compiler or network, in dist/
	hack/release.sh $(ARGS)

demo: ## a rich container from a real image, by a private containerd; as root
	hack/demo.sh $(ARGS)
