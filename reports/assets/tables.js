'use strict';
// A click on a heading sorts the rows inside each part of a table: down, up, and back as they came.
const sortableTables = (() => {
  const NEXT = { none: 'descending', descending: 'ascending', ascending: 'none' };

  const keyOf = (row, column) => row.cells[column].dataset.sort;

  const compareCells = (column, direction) => (one, other) => {
    const [a, b] = [keyOf(one, column), keyOf(other, column)];
    // What has no value stays below, whichever way the rest is sorted.
    if (!a || !b) return Number(!a) - Number(!b);
    const [x, y] = [parseFloat(a), parseFloat(b)];
    const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, 'en', { numeric: true }) : x - y;
    return direction === 'ascending' ? order : -order;
  };

  const sortRows = (table, column, direction, original) => {
    [...table.tBodies].forEach((body, i) => {
      const rows = [...original[i]];
      if (direction !== 'none') rows.sort(compareCells(column, direction));
      body.append(...rows);
    });
  };

  const makeSortable = (table) => {
    const heads = [...table.querySelectorAll('thead tr.heads th')];
    const original = [...table.tBodies].map((body) => [...body.rows].filter((row) => !row.matches('.section')));
    heads.forEach((head, column) => {
      const button = make('button', { type: 'button', class: 'sort' }, ...head.childNodes);
      head.append(button);
      head.setAttribute('aria-sort', 'none');
      button.addEventListener('click', () => {
        const direction = NEXT[head.getAttribute('aria-sort')];
        heads.forEach((other) => other.setAttribute('aria-sort', 'none'));
        head.setAttribute('aria-sort', direction);
        sortRows(table, column, direction, original);
      });
    });
  };

  return { start: () => document.querySelectorAll('table.sortable').forEach(makeSortable) };
})();
