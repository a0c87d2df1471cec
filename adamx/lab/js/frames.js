// Pictures behind one slider.
function mount(root, {frames, labels, title, start}) {
  const draw = () => {
    const i = read(root, "frame", Number, i => labels[i]);
    const image = root.querySelector("img");
    image.src = `data:image/png;base64,${frames[i]}`;
    image.alt = `${title}: ${labels[i]}`;
  };
  const control = slider("frame", "", 0, frames.length - 1, 1, start);
  build(root, `<img><div class="controls">${control}</div>`, () => {
    root.querySelector("label span").textContent = title;
    draw();
  });
}
