// The live part of a page: asked for again every second while what it shows is not over and somebody looks.
"use strict";
(() => {
  const place = document.getElementById("jp-live");
  if (!place) return;
  const isOver = () => place.querySelector("[data-over]")?.dataset.over === "yes";
  let failures = 0;
  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(place.dataset.url, { headers: { "X-Requested-With": "fetch" } });
        if (answer.ok && !answer.redirected) {
          place.innerHTML = await answer.text();
          failures = 0;
        } else {
          failures += 1;
        }
      } catch {
        failures += 1;
      }
    }
    if (!isOver() && failures < 30) setTimeout(look, Math.min(1000 * 2 ** failures, 15000));
    else if (isOver() && wasRunning) location.reload(); // the buttons differ now
  };
  const wasRunning = !isOver();
  if (wasRunning) setTimeout(look, 1000);
})();
