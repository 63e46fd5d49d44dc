"use strict";
const find = (id) => document.getElementById(id);

// Theme: as the system has it, dark, light.
const themes = ["automatic", "dark", "light"];
find("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const now = themes[(themes.indexOf(root.dataset.theme ?? "automatic") + 1) % themes.length];
  root.dataset.theme = now;
  find("theme").textContent = `Theme: ${now}`;
});

if (find("sample")) gallery();

function gallery() {
  const groups = [...document.querySelectorAll(".group")];
  const view = () => document.querySelector("input[name=view]:checked").value;
  let group, samples, tables, figures = [], media = [], playing = false;

  // One option per [text, value]; what was chosen stays chosen where there is such a value.
  function fill(select, options) {
    const before = select.value;
    select.replaceChildren(...options.map(([text, value]) => new Option(text, value)));
    const same = options.findIndex(([, value]) => value === before);
    select.selectedIndex = Math.max(0, same);
  }

  const texts = (elements) => [...elements].map((element) => element.firstChild.textContent);

  function chooseGroup() {
    pause();
    group = groups[find("group").selectedIndex];
    groups.forEach((each) => { each.hidden = each !== group; });
    samples = [...group.querySelectorAll(".sample")];
    tables = [...group.querySelectorAll("table[data-metric]")];
    const labels = texts(samples[0].querySelectorAll("figcaption"));
    fill(find("sample"), samples.map((each) => [each.firstChild.textContent, each.dataset.index]));
    fill(find("method"), labels.map((text, i) => [text, String(i)]).slice(1));
    fill(find("metric"), tables.map((each) => [each.dataset.metric, each.dataset.metric]));
    find("pick-controls").hidden = tables.length === 0;
    find("frame").max = group.dataset.frames;
    find("clip-controls").hidden = group.dataset.frames === "1";
    choosePick();
  }

  // The worst, median or best sample of the method, or the one that is chosen by itself.
  function choosePick() {
    const which = find("which").value;
    tables.forEach((each) => { each.parentElement.hidden = each.dataset.metric !== find("metric").value; });
    const table = tables.find((each) => each.dataset.metric === find("metric").value);
    const head = table && table.querySelector(`th[data-column="${find("method").value}"]`);
    find("elsewhere").hidden = true;
    if (which) {
      const index = head && head.dataset[which];
      const here = samples.some((each) => each.dataset.index === index);
      if (here) find("sample").value = index;
      else tell(which, head, index);
    }
    chooseSample();
  }

  function tell(which, head, index) {
    const method = find("method").selectedOptions[0].text;
    find("elsewhere").textContent = head
      ? `The ${which} sample of ${method} by ${find("metric").value} is #${index}, which is not in this page: `
        + `see samples/${head.dataset.run} in the results folder.`
      : `${method} has no ${find("metric").value} of single samples.`;
    find("elsewhere").hidden = false;
  }

  function chooseSample() {
    pause();
    for (const element of videos()) { element.preload = "none"; element.load(); } // those of before
    const index = find("sample").value;
    samples.forEach((each) => { each.hidden = each.dataset.index !== index; });
    figures = [...samples.find((each) => !each.hidden).children[1].children];
    media = figures.map((figure) => figure.firstChild);
    for (const row of group.querySelectorAll("tr[data-index]")) {
      row.classList.toggle("shown", row.dataset.index === index);
    }
    for (const element of videos()) element.preload = "auto";
    find("frame").value = 1;
    if (videos().length) show();
    chooseView();
  }

  function chooseView() {
    const over = view() === "over";
    group.classList.toggle("over", over);
    group.classList.toggle("side", !over);
    find("overlay-controls").hidden = !over;
    figures.forEach((figure, i) => {
      figure.classList.toggle("chosen", i > 0 && String(i) === find("method").value);
    });
    mix(find("mix").value / 100);
  }

  function mix(share) {
    const over = view() === "over";
    media.forEach((element, i) => { element.style.opacity = over && i > 0 ? share : 1; });
  }

  // Clips: the slider says which frame all of them show; playing moves the slider.
  const videos = () => media.filter((element) => element.tagName === "VIDEO");

  function show() {
    const frame = Number(find("frame").value);
    find("frame-now").textContent = `${frame} / ${group.dataset.frames}`;
    for (const video of videos()) video.currentTime = (frame - 0.5) / group.dataset.rate;
  }

  function pause() {
    clearInterval(playing);
    playing = false;
    find("play").textContent = "Play";
  }

  function play() {
    find("play").textContent = "Pause";
    playing = setInterval(() => {
      if (videos().some((video) => video.seeking)) return; // none runs ahead of another
      find("frame").value = (Number(find("frame").value) % group.dataset.frames) + 1;
      show();
    }, 1000 / group.dataset.rate);
  }

  find("group").addEventListener("change", chooseGroup);
  find("sample").addEventListener("change", () => { find("which").value = ""; choosePick(); });
  for (const id of ["method", "which", "metric"]) find(id).addEventListener("change", choosePick);
  for (const input of document.querySelectorAll("input[name=view]")) {
    input.addEventListener("change", chooseView);
  }
  find("mix").addEventListener("input", () => mix(find("mix").value / 100));
  find("play").addEventListener("click", () => (playing ? pause() : play()));
  find("frame").addEventListener("input", () => { pause(); show(); });

  // The reference shows while the button, or a key on it, is held.
  const hold = () => mix(0);
  const release = () => mix(find("mix").value / 100);
  const button = find("hold");
  button.addEventListener("pointerdown", hold);
  button.addEventListener("keydown", (event) => { if (" Enter".includes(event.key)) hold(); });
  for (const end of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"]) {
    button.addEventListener(end, release);
  }

  // A number in the table of scores shows its sample.
  for (const link of document.querySelectorAll(".scores a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      find("which").value = "";
      find("sample").value = link.textContent;
      choosePick();
      group.scrollIntoView();
    });
  }
  for (const table of document.querySelectorAll("table[data-metric]")) sortable(table);

  // What was chosen before a reload is not: the page begins anew.
  for (const select of [find("group"), find("which"), find("sample")]) select.selectedIndex = 0;
  document.querySelector("input[name=view][value=side]").checked = true;
  find("mix").value = 100;
  for (const video of document.querySelectorAll("video")) video.controls = false;
  find("group").closest(".controls").classList.add("live");
  chooseGroup();
}

// A click on a heading sorts by it: scores from the worst on, another click the other way.
function sortable(table) {
  const [head, body] = [table.tHead.rows[0], table.tBodies[0]];
  [...head.cells].forEach((cell, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      const first = i > 1 && table.dataset.better === "lower" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = cell.getAttribute("aria-sort") === first ? other : first;
      for (const each of head.cells) each.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const text = (row) => row.cells[i].textContent;
      const compare = (a, b) => text(a).localeCompare(text(b), "en", { numeric: true });
      const byNumber = (a, b) => text(a) - text(b);
      body.append(...[...body.rows].sort((a, b) => sign * (i === 1 ? compare : byNumber)(a, b)));
    });
  });
}
