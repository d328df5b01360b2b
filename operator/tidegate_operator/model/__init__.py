"""The Gateway resource as types: what people write, what the operator reports. No I/O."""
