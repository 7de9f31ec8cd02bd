"""The corpus that the small world's own tests use."""

from tests.synthetic.conftest import corpus  # noqa: F401
