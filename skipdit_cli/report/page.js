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
  let group, figures, media, playing = false;

  // One option per text; the place of what was chosen is kept where there is such a place.
  function fill(select, texts) {
    const before = Math.max(0, select.selectedIndex);
    select.replaceChildren(...texts.map((text) => new Option(text)));
    select.selectedIndex = Math.min(before, texts.length - 1);
  }

  function chooseGroup() {
    pause();
    for (const element of document.querySelectorAll("[data-sources]")) element.removeAttribute("src");
    group = groups[find("group").selectedIndex];
    groups.forEach((each) => { each.hidden = each !== group; });
    figures = [...group.querySelectorAll("figure")];
    media = figures.map((figure) => figure.querySelector("[data-sources]"));
    fill(find("sample"), group.dataset.samples.split("\n"));
    fill(find("method"), media.slice(1).map((element) => element.dataset.label));
    find("frame").max = group.dataset.frames;
    find("clip-controls").hidden = group.dataset.frames === "1";
    chooseSample();
    chooseView();
  }

  function chooseSample() {
    pause();
    const index = find("sample").selectedIndex;
    const sample = find("sample").value;
    media.forEach((element, i) => {
      const source = element.dataset.sources.split(" ")[index];
      const text = `${sample}, ${element.dataset.label}`;
      element.hidden = source === "-";
      figures[i].querySelector(".absent").hidden = source !== "-";
      element.setAttribute(element.tagName === "IMG" ? "alt" : "aria-label", text);
      if (source === "-") element.removeAttribute("src");
      else element.src = source;
    });
    find("frame").value = 1;
    if (videos().length) show();
  }

  function chooseView() {
    const over = view() === "over";
    group.classList.toggle("over", over);
    find("overlay-controls").hidden = !over;
    figures.forEach((figure, i) => {
      const method = i > 0 && i - 1 === find("method").selectedIndex;
      figure.classList.toggle("chosen", i === 0 || method);
    });
    mix(find("mix").value / 100);
  }

  function mix(share) {
    const over = view() === "over";
    media.forEach((element, i) => { element.style.opacity = over && i > 0 ? share : 1; });
  }

  // Clips: the slider says which frame all of them show; playing moves the slider.
  const videos = () => media.filter((element) => element.tagName === "VIDEO" && !element.hidden);

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
  find("sample").addEventListener("change", chooseSample);
  find("method").addEventListener("change", chooseView);
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

  // What was chosen before a reload is not: the page begins anew.
  for (const select of [find("group"), find("sample")]) select.selectedIndex = 0;
  document.querySelector("input[name=view][value=side]").checked = true;
  find("mix").value = 100;
  chooseGroup();
}
