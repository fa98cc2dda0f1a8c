'use strict';
// What the cases hold, and what follows from it: values, differences to the base, orders.
const scores = (() => {
  const data = JSON.parse(byId('case-data').textContent);
  const BASE = 0;
  const known = new Map(data.metrics.map((metric) => [metric.id, metric]));
  const cases = new Map(data.cases.map((one) => [one.id, one]));

  // A score is [status, reason, one value per protocol].
  const scoreOf = (run, metric) => run.scores[metric] ?? null;
  const valueOf = (run, metric, protocol) => (metric ? scoreOf(run, metric)?.[2 + protocol] : run.quality[protocol]) ?? null;

  const deltaOf = (one, index, metric, protocol) => {
    if (index === BASE) return null;
    const [base, value] = [BASE, index].map((i) => valueOf(one.runs[i], metric, protocol));
    return base === null || value === null ? null : value - base;
  };

  // What is said of a score that is there holds for one protocol, which it begins with.
  const remark = (run, metric, protocol) => {
    const [status, said] = scoreOf(run, metric);
    const start = `${data.protocols[protocol]}: `;
    return status === 'scored' && said?.startsWith(start) ? said.slice(start.length) : null;
  };

  const isRaw = (metric, protocol) => Boolean(metric) && known.get(metric).raw[protocol];
  const digits = (metric, protocol) => (isRaw(metric, protocol) ? 4 : 2);
  const text = (value, metric, protocol) => value.toFixed(digits(metric, protocol));
  const deltaText = (delta, metric, protocol) => {
    const shown = text(Math.abs(delta), metric, protocol);
    // What rounds to nothing has no sign.
    if (Number(shown) === 0) return `±${shown}`;
    return (delta < 0 ? '−' : '+') + shown;
  };

  const extreme = (values, pick) => {
    const there = values.filter((value) => value !== null);
    return there.length ? pick(...there) : null;
  };

  const picked = (one, run) => (run === null ? one.runs.map((_, i) => i) : [run]);
  const lowest = (one, { metric, protocol, run }, pick = Math.min) =>
    extreme(picked(one, run).map((i) => valueOf(one.runs[i], metric, protocol)), pick);
  const worstDelta = (one, { metric, protocol, run }, pick = Math.min) =>
    extreme(picked(one, run).map((i) => deltaOf(one, i, metric, protocol)), pick);

  const statuses = (one, { metric, run }) => picked(one, run).flatMap((i) => {
    const { scores: all, trouble } = one.runs[i];
    if (metric) return all[metric] ? [all[metric][0]] : ['missing'];
    return [...trouble, ...Object.values(all).map((score) => score[0])];
  });

  const troubleRank = (one, view) => {
    const found = statuses(one, view);
    const rank = data.trouble.findIndex((status) => found.includes(status));
    return rank < 0 ? data.trouble.length : rank;
  };

  return { data, cases, BASE, scoreOf, valueOf, deltaOf, remark, isRaw, text, deltaText, lowest, worstDelta, statuses, troubleRank };
})();
