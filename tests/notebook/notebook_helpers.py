"""What the tests of notebooks share."""

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image

HOSTILE = "<script>alert(1)</script>\"&'"


class Read(HTMLParser):
    """Tags, addresses and words of some HTML."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.addresses, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def pictures(self):
        """Its images."""
        parts = [re.fullmatch("data:image/jpeg;base64,(.*)", address) for address in self.addresses]
        return [Image.open(io.BytesIO(base64.b64decode(part[1]))) for part in parts]
