"""The guide, typed word for word, with a real Docker engine: `make test-containers`."""
