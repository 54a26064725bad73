"""Load, kills and the real parts that they need: for the tests and for measuring, never imported by the product."""
