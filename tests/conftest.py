"""What holds for all tests."""

from hypothesis import settings

# How long one example takes is the machine's business: other work on it fails no test.
settings.register_profile("pouchrich", deadline=None)
settings.load_profile("pouchrich")
