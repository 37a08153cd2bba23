// Plays each cine by moving its sprite; still without scripts, and where the reader prefers no motion.
(() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const sprite of document.querySelectorAll(".sprite[data-ms]")) {
    const { frames, height, ms } = sprite.dataset;
    const button = sprite.parentElement.querySelector("button");
    let frame = 0, timer = null;
    const step = () => { frame = (frame + 1) % frames; sprite.style.backgroundPositionY = `${-frame * height}px`; };
    const toggle = () => {
      timer = timer ? clearInterval(timer) : setInterval(step, ms);
      button.textContent = timer ? "Pause" : "Play";
    };
    button.hidden = false;
    button.textContent = "Play";
    button.addEventListener("click", toggle);
    if (!still) toggle();
  }
})();
