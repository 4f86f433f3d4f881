// Enlarges a picture; arrows go to the next one and back, Esc closes.
const figures = [...document.querySelectorAll("figure")];
const viewer = document.querySelector("dialog");
let shown = 0;

function show(number) {
  shown = (number + figures.length) % figures.length;
  const figure = figures[shown];
  viewer.querySelector(".views").replaceChildren(
    ...[...figure.querySelectorAll(".view")].map((view) => view.cloneNode(true)),
  );
  viewer.querySelector("p").innerHTML = figure.querySelector("figcaption").innerHTML;
  if (!viewer.open) viewer.showModal();
}

figures.forEach((figure, number) => {
  figure.querySelector("button").addEventListener("click", () => show(number));
});
viewer.querySelector(".views").addEventListener("click", () => viewer.close());
viewer.querySelector("[data-go='-1']").addEventListener("click", () => show(shown - 1));
viewer.querySelector("[data-go='1']").addEventListener("click", () => show(shown + 1));
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
viewer.addEventListener("close", () => figures[shown].querySelector("button").focus());
document.addEventListener("keydown", (event) => {
  if (!viewer.open) return;
  if (event.key === "ArrowRight") show(shown + 1);
  if (event.key === "ArrowLeft") show(shown - 1);
});
