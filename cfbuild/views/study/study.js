"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const { study, rater, start, open } = document.body.dataset;
  const QUESTIONS = ["consistency", "fluency"], ENDS = ["most", "least"];
  const pages = [...document.querySelectorAll("section.page")];
  const screens = [at("welcome"), ...pages, at("end")];
  const key = `${start}:${study}:${rater}`;
  const letters = [...pages[0].querySelectorAll("fieldset")[0].querySelectorAll("input")].map((input) => input.value);
  let keeps = true;

  function load() {
    try {
      return JSON.parse(localStorage.getItem(key)) || {};
    } catch {
      return {};
    }
  }
  function save() {
    try {
      localStorage.setItem(key, JSON.stringify(kept));
    } catch {
      keeps = false;
    }
    at("unkept").hidden = keeps;
  }
  const kept = { answers: {}, screen: 0, ...load() };
  kept.answers = Object.fromEntries(Object.entries(kept.answers || {}).filter(([, value]) => letters.includes(value)));

  // A page with two passages only asks which has more; the other passage has less.
  function letter(number, question, end) {
    const answer = kept.answers[`${number}-${question}-${end}`];
    if (answer || letters.length > 2 || end === "most") return answer || open;
    const most = letter(number, question, "most");
    return most === open ? open : letters.find((other) => other !== most);
  }
  const answers = (number) => QUESTIONS.map((question) => ENDS.map((end) => letter(number, question, end)).join("")).join("");
  const is_done = (number) => !fault_of(number);

  function fault_of(number) {
    const page = pages[number - 1];
    for (const field of page.querySelectorAll("fieldset")) {
      if (letter(number, field.dataset.question, field.dataset.end) === open)
        return [field, `Please answer: ${field.querySelector("legend").textContent}`];
    }
    for (const question of QUESTIONS) {
      if (letter(number, question, "most") === letter(number, question, "least"))
        return [page.querySelector(`fieldset[data-question=${question}][data-end=least]`),
          `One passage cannot have both most and least ${question}. Please change one of the two.`];
    }
    return null;
  }

  function checksum(text) {
    let crc = ~0;
    for (let i = 0; i < text.length; i++) {
      crc ^= text.charCodeAt(i);
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return (~crc >>> 0).toString(16).padStart(8, "0");
  }
  function code() {
    const body = `${start}:${study}:${rater}:${pages.map((_, place) => answers(place + 1)).join(".")}`;
    return `${body}:${checksum(body)}`;
  }

  function show(screen, focus = true) {
    kept.screen = screen;
    save();
    screens.forEach((section, place) => { section.hidden = place !== screen; });
    if (screen > pages.length) finish();
    if (focus) {
      const title = screens[screen].querySelector("h1");
      title.focus();
      window.scrollTo(0, 0);
    }
  }
  function count() {
    at("progress").value = pages.filter((_, place) => is_done(place + 1)).length;
  }

  function finish() {
    const incomplete = pages.map((_, place) => place + 1).filter((number) => !is_done(number));
    at("state").textContent = incomplete.length
      ? `${incomplete.length} of ${pages.length} pages are not complete. You can send what you have, or go back to them:`
      : `All ${pages.length} pages are complete. Thank you!`;
    at("open-pages").replaceChildren(...incomplete.map((number) => {
      const item = document.createElement("li"), button = document.createElement("button");
      button.type = "button";
      button.textContent = `Page ${number}`;
      button.addEventListener("click", () => show(number));
      item.append(button);
      return item;
    }));
    at("saved").textContent = "";
    at("code").value = code();
  }

  pages.forEach((page, place) => {
    const number = place + 1, alert = page.querySelector("[role=alert]");
    page.querySelector(".back").addEventListener("click", () => show(number - 1));
    page.querySelector(".end").addEventListener("click", () => show(pages.length + 1));
    page.addEventListener("change", (event) => {
      kept.answers[event.target.name] = event.target.value;
      alert.textContent = "";
      save();
      count();
    });
    page.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const fault = fault_of(number);
      if (!fault) return show(number + 1);
      fault[0].append(alert);  // at the question, where a phone shows it
      alert.textContent = fault[1];
      (fault[0].querySelector("input:checked") || fault[0].querySelector("input")).focus();
    });
    for (const input of page.querySelectorAll("input")) input.checked = kept.answers[input.name] === input.value;
  });
  at("start").addEventListener("click", () => show(1));
  at("again").addEventListener("click", () => show(pages.length));
  at("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${code()}\n`], { type: "text/plain" }));
    link.download = `answers-${rater}.txt`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    at("saved").textContent = `Saved as ${link.download}, usually among your downloads.`;
  });
  at("copy").addEventListener("click", async () => {
    at("code").select();
    try {
      await navigator.clipboard.writeText(code());
      at("saved").textContent = "The code is copied.";
    } catch {
      at("code").focus();
      at("saved").textContent = "The code is selected: copy it from the field below.";
    }
  });
  count();
  const resumed = Number.isInteger(kept.screen) && screens[kept.screen] ? kept.screen : 0;
  show(resumed, resumed > 0);
})();
