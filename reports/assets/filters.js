'use strict';
// Which cases are shown, and in which order.
const filters = (() => {
  const { data } = scores;
  const [box, tools, count, none, empty] = ['cards', 'tools', 'count', 'none', 'empty'].map(byId);
  const [order, metric, run, protocol, category, state, search] =
    ['order', 'metric', 'run', 'protocol', 'category', 'state', 'search'].map(byId);
  const cards = [...box.children];
  const chips = empty ? [...empty.querySelectorAll('li')] : [];

  const reasons = (one) => one.runs.flatMap((entry) =>
    [entry.gap, ...Object.values(entry.scores).map((score) => score[1])]).filter(Boolean);
  // Texts do not change: they are put together once, so that typing stays quick.
  const texts = new Map(cards.map((card) => {
    const one = scores.cases.get(card.dataset.id);
    return [card, [card.textContent, ...new Set(reasons(one))].join(' ').toLowerCase()];
  }));
  chips.forEach((chip) => texts.set(chip, chip.dataset.text));

  const view = () => ({
    metric: metric.value || null,
    run: run && run.value !== '' ? Number(run.value) : null,
    protocol: Number(protocol.value),
    words: search.value.toLowerCase().split(/\s+/).filter(Boolean),
  });

  const fits = (item, itsCategory, statuses, words) =>
    (!category.value || itsCategory === category.value) &&
    (!state.value || statuses.includes(state.value)) &&
    words.every((word) => texts.get(item).includes(word));

  // A chosen metric shows the cases that it applies to.
  const fitsMetric = (statuses, wanted) =>
    !wanted.metric || state.value === 'not_applicable' || statuses.some((status) => status !== 'not_applicable');

  const filterCards = (wanted) => {
    cards.forEach((card) => {
      const one = scores.cases.get(card.dataset.id);
      const statuses = scores.statuses(one, wanted);
      card.hidden = !(fits(card, one.category, statuses, wanted.words) && fitsMetric(statuses, wanted));
    });
    return cards.filter((card) => !card.hidden).length;
  };

  const filterEmpty = (wanted) => {
    if (!empty) return 0;
    chips.forEach((chip) => { chip.hidden = !fits(chip, chip.dataset.category, ['missing'], wanted.words); });
    empty.querySelectorAll('.reason').forEach((reason) => {
      reason.hidden = !reason.querySelector('li:not([hidden])');
    });
    const left = chips.filter((chip) => !chip.hidden).length;
    byId('empty-count').textContent = left;
    empty.hidden = !left;
    return left;
  };

  // What has no number comes last, in either direction.
  const up = (value) => value ?? Infinity;
  const down = (value) => -(value ?? -Infinity);
  const KEYS = {
    worst: (one, wanted) => [scores.troubleRank(one, wanted), up(scores.lowest(one, wanted) ?? -1e9)],
    lowest: (one, wanted) => [up(scores.lowest(one, wanted))],
    highest: (one, wanted) => [down(scores.lowest(one, wanted, Math.max))],
    drop: (one, wanted) => [up(scores.worstDelta(one, wanted))],
    gain: (one, wanted) => [down(scores.worstDelta(one, wanted, Math.max))],
    name: () => [],
  };

  const compare = ([keys, id], [otherKeys, otherId]) => {
    const at = keys.findIndex((key, i) => key !== otherKeys[i]);
    if (at >= 0) return keys[at] < otherKeys[at] ? -1 : 1;
    return id.localeCompare(otherId, 'en', { numeric: true });
  };

  const sort = (wanted) => {
    const keyed = cards.map((card) => {
      const one = scores.cases.get(card.dataset.id);
      return [KEYS[order.value](one, wanted), one.id, card];
    });
    const sorted = keyed.sort(compare).map((entry) => entry[2]);
    // Moving a card would stop its clips: nothing is moved where the order stays.
    if (sorted.some((card, i) => card !== box.children[i])) box.append(...sorted);
  };

  const apply = () => {
    const wanted = view();
    sort(wanted);
    const shown = filterCards(wanted) + filterEmpty(wanted);
    count.textContent = `${shown} of ${cards.length + chips.length} cases`;
    none.hidden = shown > 0;
  };

  const showNumbers = () => cards.forEach((card) => caseBody.setView(card, view()));

  const reset = () => {
    [metric, run, category, state, search].forEach((field) => { if (field) field.value = ''; });
    showNumbers();
    apply();
    search.focus();
  };

  const start = () => {
    metric.append(...data.metrics.map((one) => make('option', { value: one.id }, one.label)));
    [protocol, metric].forEach((field) => field.addEventListener('change', showNumbers));
    tools.addEventListener('change', apply);
    search.addEventListener('input', apply);
    tools.addEventListener('submit', (event) => event.preventDefault());
    byId('reset').addEventListener('click', reset);
    tools.hidden = false;
    apply();
  };

  return { start, cards, view, search };
})();
