"""How the pages look: light and dark, narrow and wide, on screen and on paper.

The colours of lines are those of Okabe and Ito, which people with any kind of colour vision can
tell apart; each line has a dash pattern and a marker of its own besides.
"""

LINES = 7
"""How many lines differ in colour, dash and marker."""

DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2")

STYLE = """
:root{--bg:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d3d8de;--panel:#f5f7f9;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#56b4e9;--c5:#e69f00;--c6:#1b1f24}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--ink:#e8eaed;--soft:#a3abb5;--line:#39414a;
--panel:#1d2126;--c0:#56b4e9;--c1:#e69f00;--c2:#009e73;--c3:#cc79a7;--c4:#4a9fdc;--c5:#e8743b;
--c6:#e8eaed}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:16px 12px 48px}
h1{font-size:1.5em;line-height:1.2;margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.15em;margin:2em 0 .5em;border-bottom:1px solid var(--line);padding-bottom:.25em}
h3{font-size:1em;margin:0}h3.error{margin-top:1em}
p{margin:.4em 0;max-width:75ch;overflow-wrap:anywhere}
.soft,figcaption{color:var(--soft)}
.status{border:1.5px solid;border-radius:6px;padding:.5em .8em;margin:.8em 0;max-width:none;
overflow-wrap:anywhere}
.status b{margin-right:.4em}
.good{border-color:var(--c2)}.bad{border-color:var(--c1)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(136px,1fr));gap:8px;margin:1em 0}
.tile{background:var(--panel);border-radius:6px;padding:.55em .7em}
.tile b{display:block;font-size:1.2em;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tile span{color:var(--soft);font-size:.9em}
.figures{display:grid;grid-template-columns:minmax(0,1fr);gap:24px}
.figures>*{min-width:0}
figure{margin:0;min-width:0;break-inside:avoid}
figcaption{font-size:.9em;margin-top:.2em}
svg{display:block;width:100%;height:auto;overflow:visible}
svg.narrow{max-width:480px}svg.wide{display:none}
svg text{font:12px system-ui,sans-serif;fill:var(--soft);font-variant-numeric:tabular-nums}
.grid{stroke:var(--line);stroke-width:1;fill:none}.frame{stroke:var(--soft);stroke-width:1}
.curve{fill:none;stroke-width:2;stroke-linejoin:round}
.hit{fill:transparent}.hit:hover{fill:var(--soft);fill-opacity:.18}
.flag{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:3 3;fill:none}
svg text.flagged{fill:var(--ink);font-weight:600;paint-order:stroke;
stroke:var(--bg);stroke-width:5px;stroke-linejoin:round}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;padding:0;margin:.3em 0;list-style:none;
font-size:.9em}
.legend li{display:flex;align-items:center;gap:6px}
.legend svg{width:34px;height:14px;flex:none}
.scroll{overflow-x:auto;margin:.6em 0}
table{border-collapse:collapse;font-size:.9em;font-variant-numeric:tabular-nums}
th,td{padding:.35em .7em;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}td{white-space:nowrap}
.n{text-align:right}
.say{white-space:pre-wrap;overflow-wrap:anywhere;min-width:15em}
.told li{overflow-wrap:anywhere}.told{margin:.4em 0;padding-left:1.2em}
dl{margin:.6em 0;display:grid;grid-template-columns:minmax(0,1fr);gap:0 32px}
dl div{display:grid;grid-template-columns:minmax(7em,12em) minmax(0,1fr);gap:12px;
padding:.25em 0;border-bottom:1px solid var(--line)}
dt{color:var(--soft);overflow-wrap:anywhere}dd{margin:0;overflow-wrap:anywhere}
@media(min-width:720px){svg.narrow{display:none}svg.wide{display:block;max-width:640px}
.legend svg{display:block}main{padding:24px 24px 64px}}
@media(min-width:1100px){.figures,dl{grid-template-columns:minmax(0,1fr) minmax(0,1fr)}}
@media print{:root{--bg:#fff;--ink:#000;--soft:#444;--line:#bbb;--panel:#f2f2f2;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#56b4e9;--c5:#e69f00;--c6:#000}
svg.narrow{display:none}svg.wide{display:block}body{font-size:10pt}main{max-width:none;padding:0}.hit{display:none}
.scroll{overflow:visible}table{font-size:7.5pt}th,td{padding:.25em .4em}
.figures{grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:14px 20px}
tr,.tile,.figures>*{break-inside:avoid}h2{break-after:avoid}}
""".replace("\n", "")
