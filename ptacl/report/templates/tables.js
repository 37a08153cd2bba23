// Tables sort by a column, and leave as CSV; without scripts they stay readable. Printed, nothing stays folded away.
(() => {
  const value = (row, i) => row.cells[i].textContent.trim();
  const number = text => parseFloat(text.replace(/,/g, "").replace(/\u2212/g, "-"));
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], first = [...body.rows];
    heads.forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent || "row";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        heads.forEach(h => h.removeAttribute("aria-sort"));
        if (before === "descending") { body.append(...first); return; }
        const sign = before === "ascending" ? -1 : 1;
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        body.append(...[...first].sort((a, b) => {
          const [x, y] = [value(a, i), value(b, i)], [p, q] = [number(x), number(y)];
          if (isNaN(p) !== isNaN(q)) return isNaN(p) ? 1 : -1;
          return sign * (isNaN(p) ? x.localeCompare(y) : p - q);
        }));
      });
    });
    const link = document.createElement("a");
    const quoted = text => /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
    const lines = [...table.rows].map(r => [...r.cells].map(c => quoted(c.textContent.trim())).join(","));
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent("\ufeff" + lines.join("\n") + "\n")}`;
    link.download = `${table.dataset.name || "table"}.csv`;
    link.className = "download";
    link.textContent = "Download as CSV";
    link.setAttribute("aria-label", `Download as CSV: ${table.caption.textContent}`);
    table.parentElement.after(link);
  }
  const folded = [];
  addEventListener("beforeprint", () => {
    for (const d of document.querySelectorAll("details:not([open])")) { d.open = true; folded.push(d); }
  });
  addEventListener("afterprint", () => { for (const d of folded.splice(0)) d.open = false; });
})();
