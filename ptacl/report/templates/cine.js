// Plays cines in step with the cardiac cycle: all of a player show the same phase, and a line runs over its ECG from R peak to R peak.
(() => {
  const players = [...document.querySelectorAll(".player")].map((root) => {
    const peaks = (root.dataset.peaks || "").split(" ").filter(Boolean).map(Number);
    const player = {
      root, phase: 0, beat: 0, playing: false, seen: true, peaks, cycle: Number(root.dataset.cycle),
      sprites: [...root.querySelectorAll(".sprite")], line: root.querySelector(".playhead"),
      button: root.querySelector("button"), slider: root.querySelector("input[type=range]"), speed: root.querySelector("select"),
    };
    root.querySelector(".controls").hidden = false;
    return player;
  });

  const draw = (p) => {
    for (const { style, dataset } of p.sprites) {
      const frames = Number(dataset.frames), height = Number(dataset.height), after = p.phase - Number(dataset.phase);
      const frame = Math.round((after - Math.floor(after)) * frames) % frames, tile = height + 2;
      style.backgroundPositionY = `${(100 * (frame * tile + 1)) / (frames * tile - height)}%`;
    }
    const [from, to] = [p.peaks[p.beat], p.peaks[p.beat + 1]];
    if (p.line && to) for (const end of ["x1", "x2"]) p.line.setAttribute(end, 10 + 25 * (from + p.phase * (to - from)));
    const percent = Math.round(100 * p.phase);
    if (Number(p.slider.value) !== percent) p.slider.value = percent;
    p.slider.setAttribute("aria-valuetext", `${percent} % of the cycle after the R wave`);
  };

  let last = null;
  const tick = (now) => {
    for (const p of players.filter((p) => p.playing && p.seen)) {
      p.phase += ((now - (last ?? now)) * Number(p.speed.value)) / p.cycle;
      if (p.phase >= 1) p.beat = (p.beat + Math.floor(p.phase)) % Math.max(p.peaks.length - 1, 1);
      p.phase %= 1;
      draw(p);
    }
    last = now;
    if (players.some((p) => p.playing)) requestAnimationFrame(tick); else last = null;
  };

  const play = (p, on) => {
    const idle = !players.some((q) => q.playing);
    p.playing = on;
    p.button.textContent = on ? "Pause" : "Play";
    if (on && idle) requestAnimationFrame(tick);
  };

  // What nobody looks at stands still.
  const watcher = new IntersectionObserver((entries) => {
    for (const e of entries) players.find((p) => p.root === e.target).seen = e.isIntersecting;
  });
  for (const p of players) watcher.observe(p.root);

  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const p of players) {
    p.button.addEventListener("click", () => play(p, !p.playing));
    p.slider.addEventListener("input", () => { play(p, false); p.phase = Number(p.slider.value) / 100; draw(p); });
    draw(p);
    play(p, !still);
  }
})();
