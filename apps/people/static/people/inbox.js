// The list refreshes itself while nobody is using it; j and k walk through its cards. Everything works without this.
"use strict";
(() => {
  const REFRESH_MS = 10000;
  const links = () => [...document.querySelectorAll("#lists .stretch")];

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !["j", "k"].includes(event.key)) return;
    const all = links();
    if (!all.length) return;
    const at = all.indexOf(document.activeElement);
    const next = event.key === "j" ? Math.min(at + 1, all.length - 1) : Math.max(at - 1, 0);
    all[next].focus();
    all[next].scrollIntoView({ block: "nearest" });
  });

  document.addEventListener("submit", (event) => {
    // One press is enough; the button comes back should the page stay.
    for (const button of event.target.querySelectorAll("button[type=submit]")) {
      setTimeout(() => { button.disabled = true; }, 0);
      setTimeout(() => { button.disabled = false; }, 8000);
    }
  });
  window.addEventListener("pageshow", () => document.querySelectorAll("button:disabled").forEach((button) => { button.disabled = false; }));

  async function refresh() {
    const lists = document.getElementById("lists");
    if (!lists || document.hidden) return;
    try {
      const response = await fetch(lists.dataset.refresh, { credentials: "same-origin", headers: { Accept: "text/html" } });
      if (response.redirected) { location.reload(); return; }
      if (!response.ok) return;
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const found = fresh.getElementById("lists");
      if (!found || found.innerHTML === lists.innerHTML) return;
      const focused = document.activeElement && document.activeElement.getAttribute("href");
      lists.replaceChildren(...found.childNodes);
      document.title = fresh.title;
      if (focused) links().find((link) => link.getAttribute("href") === focused)?.focus();
    } catch { /* away for a moment: the next round finds it */ }
  }
  if (document.getElementById("lists")) setInterval(refresh, REFRESH_MS);
  document.addEventListener("visibilitychange", refresh);
})();
