"""How the report looks: on a wide and a narrow page, light, dark, and in print."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #566070; --line: #d5dbe3; --page: #fff;
  --soft: #f4f6f9; --good: #1f6f5c; --bad: #a8412b;
  --a: #c2573f; --b: #c79a2c; --c: #2f7d6b; --d: #9aa4af; --e: #2f6f9f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --dim: #a3b0c0; --line: #36404d;
  --page: #161b22; --soft: #1e252e; --good: #5cc0a8; --bad: #f0917a;
  --a: #e0795f; --b: #dcb44c; --c: #4fae97; --d: #6c7886; --e: #5fa3d4; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; border-bottom: 2px solid var(--line);
  padding-bottom: .2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
.dim, caption, .axis { color: var(--dim); }
.verdict { border: 1px solid var(--line); border-left: 6px solid var(--c); background: var(--soft);
  padding: .8rem 1rem; margin: 1.2rem 0; }
.verdict.open { border-left-color: var(--a); }
.verdict h2 { border: 0; margin: 0 0 .3rem; padding: 0; }
.verdict h3 { margin: .8rem 0 .1rem; }
.verdict ul { margin: 0; padding-left: 1.2rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
code { font: .92em ui-monospace, monospace; } code span, .time { white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: .6rem 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: .6rem 0 1rem; } svg { display: block; }
.bar { width: 100%; height: 1.6rem; } .plot { width: 100%; height: 13rem; }
.swatch { width: .9rem; height: .9rem; flex: none; }
.legend { list-style: none; padding: 0; margin: .6rem 0 0; display: flex; flex-wrap: wrap;
  gap: .2rem 1.4rem; }
.legend li { display: flex; align-items: center; gap: .45rem; }
.axis { margin: 0; font-size: .85rem; } .ends { display: flex; justify-content: space-between; }
.grid { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.line { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
rect.plaintext_only { fill: var(--a); } rect.both { fill: var(--b); }
rect.wrapped_only { fill: var(--c); } rect.no_key { fill: var(--d); } rect.kek { fill: var(--e); }
.line.kek { stroke: var(--e); } .line.wrapped_only { stroke: var(--c); }
table { border-collapse: collapse; width: 100%; font-size: .88rem; margin: .4rem 0 1rem; }
caption { text-align: left; padding: .3rem 0; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; } td.id { overflow-wrap: anywhere; min-width: 9rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media screen and (max-width: 1120px) {
  body { margin: 1rem auto; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  thead { display: none; }
  table, tbody, tr, td, caption { display: block; }
  tr { border: 1px solid var(--line); padding: .4rem .6rem; margin-bottom: .6rem; }
  td, td.number, td.time { display: grid; grid-template-columns: 9.5rem minmax(0, 1fr);
    gap: .6rem; border: 0; padding: .1rem 0; text-align: left; white-space: normal; }
  td.id { min-width: 0; }
  td::before { content: attr(data-head); color: var(--dim); }
  td:empty { display: none; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --dim: #444; --line: #bbb; --page: #fff; --soft: #fff;
    --good: #1f6f5c; --bad: #a8412b; }
  @page { size: A4; margin: 18mm 14mm 18mm; @bottom-right { content: counter(page) " of "
    counter(pages); font: 9pt sans-serif; } }
  body { max-width: none; margin: 0; padding: 0; font-size: 10pt; }
  table { font-size: 7.5pt; } th, td { padding-right: .4rem; } td.id { min-width: 6rem; }
  thead { display: table-header-group; }
  tr, figure, .verdict, dl { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
