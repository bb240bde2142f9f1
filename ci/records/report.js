"use strict";
(() => {
  const form = document.querySelector("#filter");
  if (!form) return;
  const rows = [...document.querySelectorAll("table.findings tbody tr")];
  const count = document.querySelector("#filter-count");
  const none = document.querySelector("#filter-none");
  const apply = () => {
    const data = new FormData(form);
    const severities = new Set(data.getAll("severity"));
    const scanner = data.get("scanner");
    const words = data.get("text").toLowerCase().split(/\s+/).filter(Boolean);
    const waived = data.has("waived") || !form.elements.waived;
    let shown = 0;
    for (const row of rows) {
      const content = row.textContent.toLowerCase();
      const visible =
        severities.has(row.dataset.severity) &&
        (!scanner || row.dataset.scanner === scanner) &&
        (waived || !("waived" in row.dataset)) &&
        words.every((word) => content.includes(word));
      row.hidden = !visible;
      shown += visible;
    }
    count.textContent = shown === rows.length ? `${shown} shown` : `${shown} of ${rows.length} shown`;
    none.hidden = shown > 0;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
