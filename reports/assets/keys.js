'use strict';
// Shortcuts; nothing is taken away from fields, buttons and links that have the focus.
const keys = (() => {
  const help = byId('help');
  const OWN_KEYS = 'input, select, textarea, [contenteditable]';
  const OWN_SPACE = `${OWN_KEYS}, button, summary, a`;

  const shown = () => filters.cards.filter((card) => !card.hidden)
    .sort((one, other) => (one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1));

  // The case that has the focus, else the first one that reaches into the lower part of the window.
  const current = () => document.activeElement.closest('.card')
    ?? shown().find((card) => card.getBoundingClientRect().bottom > 0.3 * window.innerHeight) ?? null;

  const inWindow = (card) => {
    const { top, bottom } = card.getBoundingClientRect();
    return bottom > 0 && top < window.innerHeight;
  };

  const group = () => {
    const card = current();
    return card && inWindow(card) ? player.of(card) : null;
  };

  const go = (step) => {
    const list = shown();
    if (!list.length) return;
    const focused = document.activeElement.closest('.card');
    const at = focused ? list.indexOf(focused) + step : Math.max(list.indexOf(current()), 0);
    const card = list[Math.min(Math.max(at, 0), list.length - 1)];
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: 'start' });
  };

  const step = (frames) => {
    const playing = group();
    if (playing) playing.show(playing.frame + frames);
    return Boolean(playing);
  };

  const ACTIONS = {
    j: () => go(1),
    k: () => go(-1),
    e: () => caseBody.toggleAll('evidence'),
    r: () => caseBody.toggleAll('replies'),
    '/': () => filters.search.focus(),
    '?': () => help.showModal(),
    ' ': () => { const found = group(); found?.toggle(); return Boolean(found); },
    ArrowLeft: (event) => step(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
  };

  const listen = (event) => {
    const action = ACTIONS[event.key];
    const taken = event.target.closest(event.key === ' ' ? OWN_SPACE : OWN_KEYS);
    // A wide table that has the focus is scrolled by the arrows.
    const scrolled = event.key.startsWith('Arrow') && event.target.closest('.scroll');
    if (!action || taken || scrolled || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (action(event) !== false) event.preventDefault();
  };

  const start = () => {
    document.addEventListener('keydown', listen);
    const button = byId('help-open');
    button.hidden = false;
    button.addEventListener('click', () => help.showModal());
  };

  return { start };
})();
