"""The page's style sheet: light and dark by the reader's setting, narrow screens, paper.

Colours are a colour-blind-safe set after Okabe and Ito (https://jfly.uni-koeln.de/color/), moved in
lightness until every line has a contrast of at least 3 to 1 with the ground of its theme.
"""

_LIGHT = """
  --ground: #ffffff; --panel: #f5f6f8; --ink: #1d2126; --soft: #59616b; --rule: #d5d9df;
  --grid: #e6e8ec; --link: #0065a8; --mark: #ffe9a3; --good: #00684d; --bad: #b03a00;
  --c0: #0065a8; --c1: #c84e00; --c2: #007f5f; --c3: #b0588d; --c4: #9a6b00; --c5: #2b86c5;
  --c6: #6a51a3; --c7: #5a5f66; --node: #eef1f5; --lead: #d3e6f5;
"""
_DARK = """
  --ground: #15181d; --panel: #1b1f26; --ink: #e8eaed; --soft: #a3acb8; --rule: #3a414c;
  --grid: #2a3039; --link: #6db9f7; --mark: #5c4a00; --good: #35c79a; --bad: #ff8c4a;
  --c0: #6db9f7; --c1: #ff8c4a; --c2: #35c79a; --c3: #e79ac6; --c4: #e8b13a; --c5: #a9d8ff;
  --c6: #b9a5ef; --c7: #aab1bb; --node: #262c35; --lead: #1d3f5c;
"""
_COLOURS = "\n".join(f".c{number} {{ --c: var(--c{number}) }}" for number in range(8))

CSS = f"""
:root {{ color-scheme: light dark;{_LIGHT}}}
@media (prefers-color-scheme: dark) {{ :root {{{_DARK}}} }}
{_COLOURS}
* {{ box-sizing: border-box }}
html {{ scroll-behavior: smooth; -webkit-text-size-adjust: 100% }}
@media (prefers-reduced-motion: reduce) {{ html {{ scroll-behavior: auto }} }}
body {{ margin: 0 auto; max-width: 80rem; padding: 1.5rem clamp(.8rem, 3vw, 2.5rem) 3rem;
  background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: break-word }}
h1 {{ font-size: 1.9rem; line-height: 1.2; margin: .2rem 0 .8rem }}
h2 {{ font-size: 1.35rem; line-height: 1.25; margin: 2.4rem 0 .8rem }}
h3 {{ font-size: 1.08rem; margin: 1.8rem 0 .6rem; padding-bottom: .2rem;
  border-bottom: 1px solid var(--rule) }}
h4 {{ font-size: 1rem; margin: 1.1rem 0 .5rem }}
p {{ margin: .5rem 0; max-width: 52rem }}
a {{ color: var(--link) }}
a:focus-visible, summary:focus-visible, .wide:focus-visible {{ outline: 2px solid var(--link);
  outline-offset: 2px }}
nav ul {{ list-style: none; display: flex; flex-wrap: wrap; gap: .4rem; padding: 0;
  margin: 1rem 0 0 }}
nav a {{ display: block; padding: .25rem .7rem; border: 1px solid var(--rule); border-radius: 1rem;
  text-decoration: none; font-size: .9rem }}
nav a:hover {{ background: var(--panel) }}
.glance {{ padding: .9rem 1.1rem .9rem 2.2rem; margin: 0; background: var(--panel);
  border-radius: .6rem; border-left: 4px solid var(--c0) }}
.glance li {{ margin: .25rem 0 }}
.hint, .remark, .missing {{ color: var(--soft); font-size: .88rem }}
.missing {{ padding: .5rem .8rem; border: 1px dashed var(--rule); border-radius: .4rem;
  width: fit-content }}
.answer {{ padding: .6rem .9rem; background: var(--panel); border-radius: .4rem;
  border-left: 4px solid var(--c2) }}
.wide {{ overflow-x: auto; border: 1px solid var(--rule); border-radius: .5rem; margin: .6rem 0 }}
table {{ border-collapse: collapse; font-size: .9rem; min-width: 100% }}
caption {{ text-align: left; padding: .55rem .8rem; color: var(--soft) }}
th, td {{ padding: .4rem .8rem; text-align: left; border-top: 1px solid var(--rule);
  white-space: nowrap }}
thead th {{ color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom;
  min-width: 4rem }}
tbody th {{ font-weight: 600 }}
th.number, td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
tbody tr:hover {{ background: var(--panel) }}
.charts {{ display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); align-items: start }}
figure {{ margin: 0; padding: .8rem .9rem; border: 1px solid var(--rule); border-radius: .6rem;
  min-width: 0; break-inside: avoid }}
section > figure {{ max-width: 34rem }}
figcaption {{ font-weight: 600; font-size: .95rem; margin-bottom: .4rem }}
svg text {{ font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  fill: var(--soft) }}
.chart, .tree {{ display: block; width: 100%; height: auto; overflow: visible }}
.grid {{ stroke: var(--grid); stroke-width: 1 }}
.axis {{ stroke: var(--soft); stroke-width: 1 }}
.tick {{ font-variant-numeric: tabular-nums }}
svg .end {{ text-anchor: end }}
svg .middle {{ text-anchor: middle }}
.line {{ fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round }}
.line.strong {{ stroke-width: 2.8 }}
.dot.quiet {{ opacity: 0 }}
.dot.quiet:hover {{ opacity: 1 }}
.band {{ fill: var(--c); opacity: .16 }}
.dot, .mark {{ fill: var(--c); stroke: var(--ground); stroke-width: 1 }}
.legend {{ list-style: none; display: flex; flex-wrap: wrap; gap: .15rem 1rem; margin: .5rem 0 0;
  padding: 0; font-size: .86rem }}
.legend b {{ font-variant-numeric: tabular-nums }}
.swatch {{ width: 30px; height: 12px; margin-right: .35rem; vertical-align: -1px }}
.swatch.small {{ width: 16px; height: 14px; vertical-align: -2px }}
.drawing {{ max-width: 46rem; overflow-x: auto }}
.tree {{ min-width: 27rem }}
.edge {{ fill: none; stroke: var(--soft); stroke-width: 1.5 }}
.edge.leader {{ stroke: var(--c0); stroke-width: 3 }}
.node {{ fill: var(--node); stroke: var(--soft); stroke-width: 1.2 }}
.leader .node {{ fill: var(--lead); stroke: var(--c0); stroke-width: 2 }}
.cut {{ stroke: var(--soft); stroke-width: .6; opacity: .6 }}
.border {{ stroke: var(--ink); stroke-width: 2 }}
.plate {{ fill: var(--node) }}
.leader .plate {{ fill: var(--lead) }}
.fork {{ fill: var(--soft) }}
.fork.leader {{ fill: var(--c0) }}
svg .layers {{ text-anchor: middle; fill: var(--ink) }}
tspan.strong {{ font-weight: 700; fill: var(--ink) }}
svg .remark {{ font-size: 11.5px }}
.card {{ padding: .7rem .9rem; border: 1px solid var(--rule); border-radius: .6rem;
  margin: .6rem 0; break-inside: avoid }}
.card h4 {{ margin-top: 0 }}
.card .hint {{ margin: 0 0 .3rem; max-width: none }}
.card .wide {{ max-width: 34rem }}
figure .hint {{ margin: .4rem 0 0 }}
.sample, .facts {{ margin: 0 }}
.sample > div, .facts > div {{ display: grid; grid-template-columns: 9.5rem 1fr; gap: .2rem 1rem;
  padding: .18rem 0 }}
.facts > div {{ border-top: 1px solid var(--grid); grid-template-columns: 13rem 1fr;
  font-size: .92rem }}
.options > div {{ grid-template-columns: minmax(13rem, 24rem) 1fr; font-size: .85rem }}
dt {{ color: var(--soft); overflow-wrap: anywhere }}
dd {{ margin: 0; overflow-wrap: anywhere }}
.sample .given dd {{ font-style: italic }}
.sample .strong dt {{ color: var(--c0); font-weight: 700 }}
mark {{ background: var(--mark); color: inherit; border-radius: .2rem; padding: 0 .12rem;
  text-decoration: underline; text-decoration-thickness: 1.5px; text-underline-offset: 3px }}
del {{ color: var(--soft) }}
.badge {{ font-size: .8rem; font-weight: 600; padding: .1rem .55rem; border-radius: 1rem;
  border: 1px solid currentColor; margin-left: .4rem; white-space: nowrap }}
.good {{ color: var(--good) }}
.bad {{ color: var(--bad) }}
.run {{ margin-top: 2.4rem; border-top: 3px solid var(--rule); padding-top: .6rem }}
summary {{ cursor: pointer; padding: .3rem 0 }}
summary h2 {{ display: inline; margin: 0 .6rem 0 .2rem }}
footer {{ margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--rule);
  color: var(--soft); font-size: .85rem }}
@media (max-width: 40rem) {{
  .sample > div, .facts > div, .options > div {{ grid-template-columns: 1fr; gap: 0 }}
  .sample > div {{ padding: .3rem 0 }}
  dt {{ font-size: .82rem }}
  th, td {{ padding: .35rem .6rem }}
}}
@media print {{
  :root {{ color-scheme: light;{_LIGHT}}}
  body {{ max-width: none; padding: 0; font-size: 11pt;
    print-color-adjust: exact; -webkit-print-color-adjust: exact }}
  nav {{ display: none }}
  details::details-content {{ content-visibility: visible; height: auto }}
  .wide {{ overflow: visible; border: 0 }}
  table {{ font-size: 7.5pt }}
  th, td {{ padding: .15rem .3rem; white-space: normal }}
  .charts {{ grid-template-columns: 1fr 1fr }}
  h2, h3, h4, summary {{ break-after: avoid }}
}}
"""
