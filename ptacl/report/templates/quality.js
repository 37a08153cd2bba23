// Filters the recordings of a shard by their flags and puts the suspicious ones first.
(() => {
  const form = document.querySelector("form.controls"), list = document.querySelector(".cards"), cards = [...list.children];
  const show = () => {
    const flag = form.elements.show.value, order = form.elements.order.value;
    // Those without a number come last; equal ones stay in the order of their rows.
    const place = (c) => (!order ? 0 : c.getAttribute(`data-by-${order}`) === null ? Infinity : -Number(c.getAttribute(`data-by-${order}`)));
    const sorted = [...cards].sort((a, b) => (place(a) === place(b) ? a.dataset.row - b.dataset.row : place(a) - place(b)));
    list.replaceChildren(...sorted);
    for (const c of cards) c.hidden = Boolean(flag) && !c.dataset.flags.split(" ").includes(flag);
    form.querySelector("output").textContent = `${cards.filter((c) => !c.hidden).length} shown`;
  };
  form.hidden = false;
  form.addEventListener("submit", (e) => e.preventDefault());
  form.addEventListener("change", show);
  show();
})();
