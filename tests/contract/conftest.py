from tests.support import threads  # noqa: F401
