"use strict";
/* What a run's page does beside htmx: says what changed, shows the wait as text, tells when the stream is gone. */
(() => {
  const said = document.getElementById("said"), lost = document.getElementById("lost"), live = document.getElementById("live");
  const host = document.querySelector("[sse-connect]");
  let title = "", line = "", since = 0;
  const tell = () => {
    const part = live.querySelector("[data-said]"), now = part ? part.dataset.said : "";
    if (title && now && now !== title) said.textContent = now; // Polite, and only when the words are other ones.
    title = now || title;
    const place = document.getElementById("waiting");
    if (place) place.textContent = line;
  };
  // A login page, or an error, is not put where the run was.
  live.addEventListener("htmx:beforeSwap", (event) => {
    if (!event.detail.xhr.responseText.includes("data-said=")) { event.detail.shouldSwap = false; lost.hidden = false; }
  });
  live.addEventListener("htmx:afterSwap", tell);
  const listen = (source) => source.addEventListener("waiting", (event) => { line = event.data; tell(); });
  host.addEventListener("htmx:sseOpen", (event) => {
    since = 0;
    lost.hidden = true;
    if (event.detail.source !== host.crossplant) { host.crossplant = event.detail.source; listen(event.detail.source); }
  });
  host.addEventListener("htmx:sseError", () => { since = since || Date.now(); });
  setInterval(() => { if (since && Date.now() - since > 10_000) lost.hidden = false; }, 2_000);
  tell();
})();
