"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const sheet = JSON.parse(byId("sheet").textContent);
  const { screens, cases, questions } = sheet;
  const left = byId("left");
  const right = byId("right");
  const videos = [left, right];
  const choices = [...document.querySelectorAll(".choice")];
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  // A sheet that a server handed out knows its rater's token by its own address, and nowhere else.
  const token = location.protocol.startsWith("http") ? (location.pathname.match(/^\/r\/([\w-]+)$/) || [])[1] : null;

  // ---- what is kept: every vote, after how many seconds which screen was seen to the end, what the server has acknowledged
  const store = `refeval-study/${sheet.study}/${sheet.rater}`;
  let kept = { votes: [], seen: {}, sent: [], refused: [] };
  let keeps = true;

  const load = () => {
    try {
      const text = localStorage.getItem(store);
      if (text) kept = { ...kept, ...JSON.parse(text) };
    } catch (error) {
      keeps = false;
    }
  };

  const keep = () => {
    try {
      localStorage.setItem(store, JSON.stringify(kept));
      keeps = true;
    } catch (error) {
      keeps = false;
    }
    showState();
  };

  const answerOf = (item) => {
    const votes = kept.votes.filter((vote) => vote.item === item);
    return votes.length ? votes[votes.length - 1].answer : null;
  };
  const answered = () => new Set(kept.votes.map((vote) => vote.item)).size;
  const firstOpen = () => screens.findIndex((screen) => !answerOf(screen.item));
  const waiting = () => kept.votes.filter((vote) => !kept.sent.includes(vote.id) && !kept.refused.includes(vote.id));

  const freshId = () => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  };

  // ---- the server, if there is one: a vote is sent until it is acknowledged
  let sending = false;
  let patience = 1000;
  let timer = 0;
  let offline = false;

  const sendNext = async () => {
    if (!token || sending) return;
    const vote = waiting()[0];
    if (!vote) return;
    clearTimeout(timer);
    sending = true;
    let again = 0;
    try {
      const reply = await fetch("/vote", {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
        body: JSON.stringify(vote),
      });
      if (reply.ok) kept.sent.push(vote.id);
      else if (reply.status === 400) kept.refused.push(vote.id);
      else throw new Error(String(reply.status));
      offline = false;
      patience = 1000;
      keep();
    } catch (error) {
      offline = true;
      again = patience;
      patience = Math.min(2 * patience, 60000);
    }
    sending = false;
    showState();
    if (again) timer = setTimeout(sendNext, again);
    else sendNext();
  };

  const showState = () => {
    const state = byId("state");
    const left = waiting().length;
    let text = "";
    if (!keeps) text = "This browser keeps nothing: save a copy before you close the page";
    else if (kept.refused.length) text = `The server refused ${kept.refused.length}: save a copy and send it`;
    else if (token && offline) text = `No connection: ${left} waiting, kept on this device`;
    else if (token && left) text = `Sending ${left}`;
    else if (kept.votes.length) text = token ? "Sent" : "Kept on this device";
    state.textContent = text;
    state.classList.toggle("bad", !keeps || kept.refused.length > 0);
    state.classList.toggle("urgent", !keeps || offline || kept.refused.length > 0);
    byId("progress").value = answered();
    byId("progress").max = screens.length;
    if (!byId("end").hidden) byId("end-text").textContent = endText();
  };

  const endText = () => {
    const open = screens.length - answered();
    const start = open ? `${open} of ${screens.length} screens are without an answer. ` : "Every screen has an answer. ";
    if (token && !waiting().length && !kept.refused.length) {
      return `${start}All answers have arrived. You may close this page.`;
    }
    if (token && !kept.refused.length) return `${start}Some answers are still on their way; leave the page open.`;
    return `${start}Save the answers as a file and send it to the people who gave you this sheet.`;
  };

  const save = () => {
    const content = { study: sheet.study, rater: sheet.rater, votes: kept.votes };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
    link.download = `votes-${sheet.rater}.json`;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  // ---- clips: made from the page's own text when they are shown, let go afterwards
  let urls = [];
  const clipUrl = (name) => {
    const text = atob(byId(`clip-${name}`).textContent);
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    urls.push(url);
    return url;
  };
  const letGo = () => {
    videos.forEach((video) => { video.pause(); video.removeAttribute("src"); video.load(); });
    urls.forEach((url) => URL.revokeObjectURL(url));
    urls = [];
  };

  // ---- one screen
  let current = -1;
  let playing = false;
  let ended = new Set();
  let opened = 0;
  let unlocked = 0;

  const now = () => performance.now() / 1000;
  const rounded = (seconds) => Math.round(seconds * 1000) / 1000;

  const setPlaying = (wanted) => {
    playing = wanted;
    byId("play").textContent = wanted ? "Pause" : "Play";
    byId("play").setAttribute("aria-pressed", String(wanted));
    videos.forEach((video) => {
      if (!wanted) video.pause();
      else if (!video.ended) video.play().catch(blocked);
    });
  };

  // Some browsers want a gesture first; then the button says what to do.
  const blocked = (error) => {
    if (error.name === "NotAllowedError" && playing) setPlaying(false);
  };

  const unlock = () => {
    const item = screens[current].item;
    if (!unlocked) unlocked = now();
    if (!(item in kept.seen)) {
      kept.seen[item] = rounded(unlocked - opened);
      keep();
    }
    choices.forEach((choice) => { choice.disabled = false; });
    const given = answerOf(item);
    byId("wait").textContent = given ? "Answered; another answer replaces it." : "You can answer now.";
  };

  const onEnded = (video) => {
    ended.add(video);
    if (ended.size < videos.length) return;
    ended = new Set();
    unlock();
    videos.forEach((one) => { one.currentTime = 0; });
    if (playing) setPlaying(true);
  };

  // The clips of a pair are equally long: a lead of one over the other is delay, and is taken back.
  const keepInStep = () => {
    if (playing && !left.ended && !right.ended && Math.abs(left.currentTime - right.currentTime) > 0.12) {
      right.currentTime = left.currentTime;
    }
  };

  const startWhenReady = () => {
    if (videos.every((video) => video.readyState >= 3) && !calm && !playing) setPlaying(true);
  };

  const view = (name) => {
    ["welcome", "screen", "end"].forEach((id) => { byId(id).hidden = id !== name; });
    scrollTo(0, 0);
  };

  const showReferences = (one) => {
    byId("references").replaceChildren(...one.references.map((reference) => {
      const [entry, picture, label] = ["li", "img", "span"].map((tag) => document.createElement(tag));
      picture.src = reference.picture;
      picture.alt = `Reference: ${reference.label}`;
      label.textContent = reference.label;
      entry.append(picture, label);
      return entry;
    }));
    byId("prompt").textContent = one.prompt;
  };

  const show = (place) => {
    letGo();
    current = place;
    const screen = screens[place];
    const question = questions[screen.question];
    view("screen");
    byId("place").textContent = `Screen ${place + 1} of ${screens.length}`;
    byId("eyebrow").textContent = question.name;
    byId("question").textContent = question.title;
    byId("hint").textContent = question.hint;
    byId("given").className = `given asked-${screen.question}`;
    showReferences(cases[screen.case]);
    const given = answerOf(screen.item);
    choices.forEach((choice) => {
      choice.disabled = true;
      choice.setAttribute("aria-pressed", String(choice.dataset.answer === given));
    });
    byId("wait").textContent = calm ? "Press Play; you can answer once both videos have played to the end."
      : "You can answer once both videos have played to the end.";
    byId("trouble").hidden = true;
    byId("back").disabled = place === 0;
    byId("next").disabled = !given;
    [ended, opened, unlocked] = [new Set(), now(), 0];
    playing = false;
    setPlaying(false);
    left.src = clipUrl(screen.left);
    right.src = clipUrl(screen.right);
    if (screen.item in kept.seen) unlock();
    byId("question").focus({ preventScroll: true });
    showState();
  };

  const finish = () => {
    letGo();
    current = -1;
    view("end");
    byId("place").textContent = `Sheet ${sheet.rater}`;
    showState();
    byId("end-title").focus();
  };

  const goOn = (place) => {
    // After a change of an earlier answer one goes on from there; after the last screen to what is still open.
    if (place < screens.length) show(place);
    else if (firstOpen() >= 0 && firstOpen() < current) show(firstOpen());
    else finish();
  };

  const vote = (answer) => {
    if (current < 0 || !unlocked) return;
    kept.votes.push({
      id: freshId(),
      study: sheet.study,
      rater: sheet.rater,
      item: screens[current].item,
      answer,
      number: kept.votes.length + 1,
      watched: kept.seen[screens[current].item],
      seconds: rounded(now() - unlocked),
      at: Date.now(),
    });
    keep();
    sendNext();
    goOn(current + 1);
  };

  // ---- hands
  const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", 0: "tie", ArrowDown: "tie", 3: "both_bad" };

  const onKey = (event) => {
    if (current < 0 || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") {
      event.preventDefault();
      setPlaying(!playing);
    } else if (event.key === "Backspace" && current > 0) {
      event.preventDefault();
      show(current - 1);
    } else if (KEYS[event.key]) {
      const choice = choices.find((one) => one.dataset.answer === KEYS[event.key]);
      if (!choice) return;
      event.preventDefault();
      vote(choice.dataset.answer);
    }
  };

  videos.forEach((video) => {
    video.addEventListener("canplay", startWhenReady);
    video.addEventListener("ended", () => onEnded(video));
    video.addEventListener("timeupdate", keepInStep);
    video.addEventListener("error", () => { if (video.getAttribute("src")) byId("trouble").hidden = false; });
    video.addEventListener("contextmenu", (event) => event.preventDefault());
  });
  choices.forEach((choice) => choice.addEventListener("click", () => vote(choice.dataset.answer)));
  byId("play").addEventListener("click", () => setPlaying(!playing));
  byId("back").addEventListener("click", () => show(current - 1));
  byId("next").addEventListener("click", () => goOn(current + 1));
  byId("skip").addEventListener("click", () => goOn(current + 1));
  byId("again").addEventListener("click", () => show(Math.max(0, firstOpen() < 0 ? screens.length - 1 : firstOpen())));
  byId("begin").addEventListener("click", () => show(Math.max(0, firstOpen())));
  ["save", "export"].forEach((id) => byId(id).addEventListener("click", save));
  addEventListener("keydown", onKey);
  addEventListener("online", sendNext);
  document.addEventListener("visibilitychange", () => { if (document.hidden && current >= 0) setPlaying(false); });

  load();
  showState();
  sendNext();
  if (kept.votes.length) {
    if (firstOpen() < 0) finish();
    else show(firstOpen());
  }
})();
