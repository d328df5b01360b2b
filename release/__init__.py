"""What a release is made with: `python -m release` lists the commands.

Builds the distributions, the npm package, the chart and the image, and proves each of them away
from the checkout. It publishes nothing: `.github/workflows/release.yml` does, with what was built.
Only the standard library and PyYAML are imported, so that it also runs before anything is installed
that a release consists of.
"""
