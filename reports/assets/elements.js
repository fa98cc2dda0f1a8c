'use strict';
// Elements are made here and nowhere else; texts only ever become text nodes, never markup.
const SVG = 'http://www.w3.org/2000/svg';

const byId = (id) => document.getElementById(id);

const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const bar = (part) => draw('svg', { class: 'bar', viewBox: '0 0 100 4', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
  draw('rect', { class: 'rail', width: 100, height: 4 }),
  draw('rect', { class: 'fill', width: Math.min(Math.max(part, 0), 100).toFixed(1), height: 4 }));

// MotionSmoothness may break between its words.
const words = (name) => name.split(/(?<=[a-z])(?=[A-Z])|(?<=_)/).flatMap((word, i) => (i ? [make('wbr'), word] : [word]));

const badge = (status) => make('span', { class: `badge ${status}` }, status.replaceAll('_', ' '));
