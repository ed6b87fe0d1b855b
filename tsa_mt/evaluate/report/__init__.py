"""One page about training runs that needs no network: ``tsa-mt report``.

From the bottom up: `markup` escapes, `wording` formats figures, `axes`, `lines`, `scatter` and
`drawing` make SVG, one file per subject (`overview`, `diversity`, `curves`, `cost`, `comparison`,
`samples`, `certificates`, `conditions`) makes the sections, and `page` puts them together under one
style sheet.
"""
