"""The layer `gateway` by itself: a hub over fakes of its ports, on a clock that the test moves."""
