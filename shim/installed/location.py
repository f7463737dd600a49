"""Where this version of the package is installed: hack/install.sh replaces this file. In a checkout the path is ""."""

VERSION_DIRECTORY = ""
