"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const [box, tools, count, none] = ["cards", "tools", "count", "none"].map(byId);
  const [category, state, search, empty] = ["category", "state", "search", "empty"].map(byId);
  const cards = [...box.children];
  const chips = empty ? [...empty.querySelectorAll("li")] : [];
  // The text of a card does not change: it is read once, so that typing stays quick.
  const texts = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
  chips.forEach((chip) => texts.set(chip, chip.dataset.text));

  const words = () => search.value.toLowerCase().split(/\s+/).filter(Boolean);

  const fits = (item, statuses, wanted) =>
    (!category.value || item.dataset.category === category.value) &&
    (!state.value || statuses.includes(state.value)) &&
    wanted.every((word) => texts.get(item).includes(word));

  const filterCards = (wanted) => {
    cards.forEach((card) => { card.hidden = !fits(card, card.dataset.status.split(" "), wanted); });
    return cards.filter((card) => !card.hidden).length;
  };

  const filterEmpty = (wanted) => {
    if (!empty) return 0;
    chips.forEach((chip) => { chip.hidden = !fits(chip, ["missing"], wanted); });
    empty.querySelectorAll(".reason").forEach((reason) => {
      reason.hidden = !reason.querySelector("li:not([hidden])");
    });
    const left = chips.filter((chip) => !chip.hidden).length;
    byId("empty-count").textContent = left;
    empty.hidden = !left;
    return left;
  };

  const filter = () => {
    const wanted = words();
    const shown = filterCards(wanted);
    const rest = filterEmpty(wanted);
    count.textContent = `${shown + rest} of ${cards.length + chips.length} cases`;
    none.hidden = shown + rest > 0;
  };

  const sort = (button) => {
    const order = button.dataset.sort;
    tools.querySelectorAll("[data-sort]").forEach((other) => {
      other.setAttribute("aria-pressed", String(other === button));
    });
    box.append(...[...cards].sort((a, b) => a.dataset[order] - b.dataset[order]));
  };

  const reset = () => {
    [category, state, search].forEach((field) => { field.value = ""; });
    filter();
    search.focus();
  };

  tools.querySelectorAll("[data-sort]").forEach((button) => {
    button.addEventListener("click", () => sort(button));
  });
  [category, state].forEach((field) => field.addEventListener("change", filter));
  search.addEventListener("input", filter);
  tools.addEventListener("submit", (event) => event.preventDefault());
  byId("reset").addEventListener("click", reset);
  tools.hidden = false;
  filter();
})();
