"""Where this version of the package is installed: hack/install.sh replaces this file. A checkout is nowhere."""

VERSION_DIRECTORY = ""
