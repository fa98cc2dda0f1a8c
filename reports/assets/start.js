'use strict';
// A case is built when it comes within a window's height of what is seen; printing builds all of them.
(() => {
  const build = (card) => { if (!caseBody.isBuilt(card)) caseBody.build(card, filters.view()); };
  const near = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
    if (!isIntersecting) return;
    near.unobserve(target);
    build(target);
  }), { rootMargin: '100% 0px' });

  sortableTables.start();
  filters.start();
  keys.start();
  filters.cards.forEach((card) => near.observe(card));
  window.addEventListener('beforeprint', () => filters.cards.forEach(build));
})();
