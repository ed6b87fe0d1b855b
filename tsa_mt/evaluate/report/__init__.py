"""One page about training runs that needs no network: ``tsa-mt report``.

From the bottom up: `markup` escapes, `wording` formats figures, `charts` and `drawing` make SVG,
one file per subject (`diversity`, `curves`, `cost`, `samples`, `certificates`, `conditions`,
`overview`) makes the sections, and `page` puts them together under one style sheet.
"""
