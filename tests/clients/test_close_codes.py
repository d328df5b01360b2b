"""The browser client goes by the gateway's own table of close codes."""

from tests.clients.close_codes import FILE, source


def test_the_table_of_the_browser_client_is_that_of_the_gateway() -> None:
    assert FILE.read_text("utf-8") == source()
