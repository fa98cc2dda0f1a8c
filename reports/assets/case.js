'use strict';
// The body of a case is made when it comes near the window: clips, scores, evidence, replies in one table whose
// columns are the runs.
const caseBody = (() => {
  const { data, BASE } = scores;
  const SEVERAL = data.runs.length > 1;
  const open = { evidence: false, replies: false };

  const spanAll = (cell) => { cell.colSpan = SEVERAL ? data.runs.length : 1; return cell; };

  const headRow = () => make('thead', {}, make('tr', {},
    make('td'),
    ...data.runs.map((label, i) => make('th', { scope: 'col' }, label, i === BASE ? make('span', { class: 'base' }, ' base') : null))));

  // Clips

  const clipCell = (one, run, index) => {
    if (!run.clip) return { cell: make('td', {}, make('p', { class: 'gap' }, run.gap), common(run)), clip: null };
    const { url, poster, width, height, frames, fps } = run.clip;
    const video = make('video', {
      muted: true, playsinline: true, preload: 'none', width, height, poster,
      'aria-label': `Clip of ${one.id} by ${data.runs[index]}`,
    });
    video.muted = true;
    const caption = make('p', { class: 'size' }, make('a', { href: url }, run.size ?? 'clip'));
    return { cell: make('td', {}, video, caption, common(run)), clip: { run: index, video, url, frames: frames || 1, fps: fps || 8 } };
  };

  const isLost = ([status]) => status !== 'scored' && status !== 'not_applicable';

  // One reason for everything that is lost is said once, under the clip.
  const commonReason = (run) => {
    const lost = Object.values(run.scores).filter(isLost);
    return lost.length > 1 && lost.every(([, reason]) => reason === lost[0][1]) ? lost[0][1] : null;
  };

  const common = (run) => {
    const reason = commonReason(run);
    return reason && !(run.gap ?? '').includes(reason) ? make('p', { class: 'why' }, `scores: ${reason}`) : null;
  };

  const clipRows = (card, one) => {
    const made = one.runs.map((run, index) => clipCell(one, run, index));
    const clips = made.map(({ clip }) => clip).filter(Boolean);
    const cells = made.map(({ cell }) => cell);
    if (!SEVERAL) cells[0].colSpan = 2;
    const rows = [make('tr', {}, SEVERAL ? make('td') : null, ...cells)];
    if (clips.length) {
      const transport = make('td', {}, player.attach(card, clips));
      transport.colSpan = 1 + data.runs.length;
      rows.push(make('tr', {}, transport));
    }
    return make('tbody', { class: 'clips' }, ...rows);
  };

  // Scores

  const valueCell = (one, index, metric, protocol) => {
    const value = scores.valueOf(one.runs[index], metric, protocol);
    if (value === null) return null;
    const raw = scores.isRaw(metric, protocol);
    const delta = scores.deltaOf(one, index, metric, protocol);
    const remark = metric ? scores.remark(one.runs[index], metric, protocol) : null;
    return make('td', {},
      make('span', { class: 'value' }, scores.text(value, metric, protocol)),
      delta === null ? null : ' ',
      delta === null ? null : deltaMark(delta, metric, protocol),
      SEVERAL || raw ? null : bar(value),
      remark ? make('small', {}, remark) : null);
  };

  const deltaMark = (delta, metric, protocol) => {
    const shown = scores.deltaText(delta, metric, protocol);
    // Outside of the total nobody says which direction is the better one.
    const side = scores.isRaw(metric, protocol) || shown.startsWith('±') ? 'even' : delta < 0 ? 'worse' : 'better';
    return make('span', { class: `delta ${side}` }, shown);
  };

  const statusCell = (run, metric) => {
    const [status, reason] = scores.scoreOf(run, metric) ?? ['missing', 'no record of this metric'];
    if (status === 'scored') return make('td', { class: 'aside' }, '–');
    const said = reason === commonReason(run) ? null : make('small', {}, reason);
    return make('td', { class: status === 'not_applicable' ? 'aside' : 'lost' },
      status === 'not_applicable' ? 'n/a' : badge(status), said);
  };

  const scoreRow = (one, metric, { protocol, metric: chosen }) => {
    const name = make('th', { scope: 'row' }, ...words(metric.label), scores.isRaw(metric.id, protocol) ? make('small', {}, 'own unit') : null);
    const all = one.runs.map((run) => scores.scoreOf(run, metric.id));
    if (all.every((score) => score?.[0] === 'not_applicable' && score[1] === all[0][1])) {
      return make('tr', { class: 'aside' }, name, spanAll(make('td', { title: all[0][1] }, 'n/a', make('small', {}, all[0][1]))));
    }
    return make('tr', { 'data-metric': metric.id, class: metric.id === chosen ? 'chosen' : null }, name,
      ...one.runs.map((run, i) => valueCell(one, i, metric.id, protocol) ?? statusCell(run, metric.id)));
  };

  const meanRow = (one, protocol) => make('tr', { class: 'mean' },
    make('th', { scope: 'row' }, 'Weighted mean'),
    ...one.runs.map((_, i) => valueCell(one, i, null, protocol) ?? make('td', { class: 'aside' }, '–')));

  const scoreRows = (one, view) => make('tbody', { class: 'numbers' },
    meanRow(one, view.protocol), ...data.metrics.map((metric) => scoreRow(one, metric, view)));

  // Evidence

  const cropButton = (card, run, [picture, frame, similarity], subject) => make('li', {}, (() => {
    const label = `${subject}: frame ${frame + 1}, similarity ${similarity.toFixed(3)}`;
    const button = make('button', { type: 'button', class: 'crop', title: label, 'aria-label': `${label}; show this frame` },
      picture ? make('img', { src: picture, alt: '', loading: 'lazy', decoding: 'async' }) : make('span', { class: 'placeholder' }, 'no clip'),
      make('span', { class: 'similarity' }, similarity.toFixed(3)));
    button.addEventListener('click', () => {
      const group = player.of(card);
      const clip = group?.clips.find((other) => other.run === run);
      // Frames are counted in the clip's own rate; the scrubber counts those of the fastest clip.
      if (clip) group.show(Math.floor(((frame + 0.5) / clip.fps) * group.fps));
    });
    return button;
  })());

  const subjects = (one) => {
    const found = new Map();
    one.runs.forEach((run, index) => run.evidence.forEach((entry) => {
      const key = JSON.stringify([entry.metric, entry.reference, entry.subject]);
      if (!found.has(key)) found.set(key, { ...entry, runs: one.runs.map(() => null) });
      found.get(key).runs[index] = entry;
    }));
    return [...found.values()];
  };

  const evidenceCell = (card, entry, index) => {
    if (!entry) return make('td', { class: 'aside' }, '–');
    return make('td', {},
      entry.crops.length ? make('ul', { class: 'crops' }, ...entry.crops.map((crop) => cropButton(card, index, crop, entry.subject))) : null,
      make('p', { class: 'said' }, entry.summary));
  };

  const evidenceRow = (card, subject) => {
    const thumbnail = subject.reference && card.querySelectorAll('.references li')[subject.reference - 1]?.querySelector('img');
    return make('tr', {},
      make('th', { scope: 'row' }, subject.metric,
        thumbnail ? make('img', { class: 'beside', src: thumbnail.getAttribute('src'), alt: '', loading: 'lazy', decoding: 'async' }) : null,
        make('small', {}, subject.subject)),
      ...subject.runs.map((entry, index) => evidenceCell(card, entry, index)));
  };

  const evidenceRows = (card, found) => make('tbody', { class: 'evidence', hidden: !open.evidence },
    ...found.map((subject) => evidenceRow(card, subject)));

  // Replies

  const replyList = (replies) => make('ul', { class: 'votes' }, ...replies.map(([vote, value, text]) => make('li', {},
    make('span', { class: 'vote' }, vote),
    make('span', { class: 'answer' }, make('q', {}, text), ' ', value === null ? badge('unparseable') : null))));

  const replyCell = (run) => {
    if (!run.replies.length) return make('td', { class: 'aside' }, run.repliesGap ?? '–');
    const served = [...new Set(run.replies.map((reply) => reply[3]))];
    return make('td', {}, replyList(run.replies), make('p', { class: 'said' }, `served by ${served.join(', ')}`));
  };

  const replyRows = (one) => make('tbody', { class: 'replies', hidden: !open.replies },
    make('tr', {}, make('th', { scope: 'row' }, 'Judge', make('small', {}, 'raw replies')), ...one.runs.map(replyCell)));

  // All of it

  const disclosure = (part, text, body) => {
    const button = make('button', { type: 'button', class: 'disclosure', 'data-part': part, 'aria-expanded': String(!body.hidden) }, text);
    button.addEventListener('click', () => show(body, button, body.hidden));
    return button;
  };

  const show = (body, button, visible) => {
    body.hidden = !visible;
    button.setAttribute('aria-expanded', String(visible));
  };

  const build = (card, view) => {
    const one = scores.cases.get(card.dataset.id);
    const box = card.querySelector('.body');
    const found = subjects(one);
    const parts = [make('caption', { class: 'hidden' }, `Clips and scores of ${one.id}`), SEVERAL ? headRow() : null,
      clipRows(card, one), scoreRows(one, view)];
    const buttons = [];
    if (found.length) {
      const body = evidenceRows(card, found);
      parts.push(body);
      buttons.push(disclosure('evidence', 'Evidence', body));
    }
    if (one.runs.some((run) => run.replies.length || run.repliesGap)) {
      const body = replyRows(one);
      parts.push(body);
      buttons.push(disclosure('replies', 'Judge’s replies', body));
    }
    box.append(
      make('div', { class: 'wide', tabindex: SEVERAL ? 0 : null, role: SEVERAL ? 'region' : null, 'aria-label': SEVERAL ? `Runs on ${one.id}` : null },
        make('table', { class: 'compare' }, ...parts)),
      make('div', { class: 'more' }, ...buttons));
  };

  const isBuilt = (card) => card.querySelector('.body').hasChildNodes();

  const setView = (card, view) => {
    if (isBuilt(card)) card.querySelector('.numbers').replaceWith(scoreRows(scores.cases.get(card.dataset.id), view));
  };

  const toggleAll = (part) => {
    open[part] = !open[part];
    document.querySelectorAll(`.disclosure[data-part=${part}]`).forEach((button) => {
      show(button.closest('.body').querySelector(`.${part}`), button, open[part]);
    });
  };

  return { build, isBuilt, setView, toggleAll };
})();
