'use strict';
// All clips of a case play as one: one button, one scrubber, one time. The longest clip is the clock; shorter ones
// wait on their last frame. Only one case plays, and only while it can be seen.
const player = (() => {
  const STILL = window.matchMedia('(prefers-reduced-motion: reduce)');
  // A browser has decoders for some dozens of clips; those of the cases used last stay loaded.
  const LOADED_CASES = 4;
  const READY_MS = 8000;
  const loaded = [];
  let active = null;

  const ready = (video, state) => new Promise((resolve) => {
    const settled = () => video.readyState >= state || video.error;
    if (settled()) return resolve();
    const look = () => settled() && done();
    const done = () => {
      ['loadeddata', 'canplay', 'error'].forEach((name) => video.removeEventListener(name, look));
      clearTimeout(late);
      resolve();
    };
    const late = setTimeout(done, READY_MS);
    ['loadeddata', 'canplay', 'error'].forEach((name) => video.addEventListener(name, look));
  });

  class Group {
    constructor(card, clips, controls) {
      Object.assign(this, { card, clips, controls, playing: false, frame: 0, asked: 0 });
      this.fps = Math.max(...clips.map((clip) => clip.fps));
      this.clock = clips.reduce((one, other) => (this.length(other) > this.length(one) ? other : one));
      this.frames = Math.max(1, Math.round(this.length(this.clock) * this.fps));
      controls.slider.max = String(this.frames - 1);
      controls.button.addEventListener('click', () => this.toggle());
      controls.slider.addEventListener('input', () => this.show(Number(controls.slider.value)));
      clips.forEach(({ video }) => video.addEventListener('click', () => this.toggle()));
      this.tell();
    }

    length(clip) { return clip.frames / clip.fps; }

    async load() {
      const at = loaded.indexOf(this);
      if (at >= 0) loaded.splice(at, 1);
      else this.clips.forEach(({ video, url }) => { video.preload = 'auto'; video.src = url; });
      loaded.push(this);
      while (loaded.length > LOADED_CASES) loaded.shift().unload();
      await Promise.all(this.clips.map(({ video }) => ready(video, HTMLMediaElement.HAVE_CURRENT_DATA)));
      this.measure();
    }

    // The record of a clip may not hold its length; the file does.
    measure() {
      this.clips.forEach((clip) => {
        if (Number.isFinite(clip.video.duration)) clip.frames = Math.round(clip.video.duration * clip.fps);
        clip.video.classList.toggle('broken', Boolean(clip.video.error));
      });
      const sound = this.clips.filter((clip) => !clip.video.error);
      if (!sound.length) return;
      this.clock = sound.reduce((one, other) => (this.length(other) > this.length(one) ? other : one));
      this.frames = Math.max(1, Math.round(this.length(this.clock) * this.fps));
      this.controls.slider.max = String(this.frames - 1);
    }

    unload() {
      this.pause();
      this.clips.forEach(({ video }) => { video.removeAttribute('src'); video.preload = 'none'; video.load(); });
    }

    // The middle of a frame, so that no rounding shows its neighbour.
    seek(frame) {
      this.clips.forEach((clip) => {
        const time = Math.min((frame + 0.5) / this.fps, this.length(clip) - 0.5 / clip.fps);
        if (Math.abs(clip.video.currentTime - time) > 1e-3) clip.video.currentTime = Math.max(time, 0);
      });
    }

    async show(frame) {
      this.pause();
      this.frame = Math.min(Math.max(frame, 0), this.frames - 1);
      this.tell();
      const asked = ++this.asked;
      await this.load();
      if (asked === this.asked && !this.playing) { this.seek(this.frame); this.tell(); }
    }

    toggle() { return this.playing ? this.pause() : this.play(); }

    async play() {
      if (active && active !== this) active.pause();
      active = this;
      this.playing = true;
      const asked = ++this.asked;
      if (this.frame >= this.frames - 1) this.frame = 0;
      this.tell();
      await this.load();
      if (asked !== this.asked || !this.playing) return;
      this.restart(this.frame);
      requestAnimationFrame(() => this.follow());
    }

    restart(frame) {
      this.frame = frame;
      this.seek(frame);
      // A browser may refuse to play, e.g. what it cannot decode; the other clips go on.
      this.clips.forEach(({ video }) => { if (!video.error) video.play().catch(() => {}); });
    }

    pause() {
      if (!this.playing) return;
      this.playing = false;
      this.asked += 1;
      this.clips.forEach(({ video }) => video.pause());
      this.seek(this.frame);
      this.tell();
    }

    follow() {
      if (!this.playing) return;
      const clock = this.clock.video;
      this.frame = Math.min(Math.floor(clock.currentTime * this.fps), this.frames - 1);
      this.tell();
      if (clock.ended) {
        if (STILL.matches) return void this.pause();
        this.restart(0);
      } else {
        this.hold(clock);
      }
      requestAnimationFrame(() => this.follow());
    }

    // A clip that is more than a frame away from the clock is set to it.
    hold(clock) {
      this.clips.forEach((clip) => {
        const { video } = clip;
        if (video === clock || video.error || video.seeking || clock.seeking) return;
        const due = Math.min(clock.currentTime, this.length(clip) - 0.5 / clip.fps);
        if (Math.abs(video.currentTime - due) <= 1 / this.fps) return;
        video.currentTime = due;
        if (video.paused && due === clock.currentTime) video.play().catch(() => {});
      });
    }

    tell() {
      const { button, slider, time } = this.controls;
      button.setAttribute('aria-pressed', String(this.playing));
      button.setAttribute('aria-label', this.playing ? 'Stop all clips of this case' : 'Play all clips of this case');
      slider.value = String(this.frame);
      slider.setAttribute('aria-valuetext', `frame ${this.frame + 1} of ${this.frames}`);
      time.textContent = `${this.frame + 1}/${this.frames}`;
    }
  }

  const groups = new Map();
  const seen = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
    if (!isIntersecting) groups.get(target)?.pause();
  }));

  const controls = () => ({
    button: make('button', { type: 'button', class: 'play' }, make('span', { class: 'icon', 'aria-hidden': 'true' })),
    slider: make('input', { type: 'range', min: 0, max: 0, step: 1, value: 0, 'aria-label': 'Frame' }),
    time: make('span', { class: 'time' }),
  });

  const attach = (card, clips) => {
    const parts = controls();
    groups.set(card, new Group(card, clips, parts));
    seen.observe(card);
    return make('div', { class: 'transport' }, parts.button, parts.slider, parts.time);
  };

  document.addEventListener('visibilitychange', () => { if (document.hidden) active?.pause(); });
  return { attach, of: (card) => groups.get(card) ?? null };
})();
