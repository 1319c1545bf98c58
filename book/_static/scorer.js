// Sphinx's own scores of what a search finds; pages of single rows come after the chapters that discuss them.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename]) => (docname.startsWith("rows/") ? score - 100 : score),
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
