"use strict";

// Without this script every picture is shown, and tables keep their order.

function showPictures() {
  const image = document.getElementById("image");
  const count = document.getElementById("count");
  const counts = count ? count.dataset.counts.split(" ") : [];
  const m = count ? counts[Number(count.value)] : null;
  if (count) {
    document.getElementById("count-value").textContent = m;
    count.setAttribute("aria-valuetext", m + " measurements");
  }
  for (const figure of document.querySelectorAll(".pictures figure")) {
    const other = m !== null && figure.dataset.m !== undefined && figure.dataset.m !== m;
    figure.hidden = figure.dataset.image !== image.value || other;
  }
}

function startGallery() {
  const controls = document.querySelector(".controls");
  if (!controls) return;
  controls.hidden = false;
  controls.addEventListener("input", showPictures);
  showPictures();
}

// Numbers by size, texts by their letters, and fields without a value last in either direction.
function compare(one, other, direction) {
  if (one === "" || other === "") return (one === "") - (other === "");
  const difference = Number(one) - Number(other);
  return direction * (Number.isNaN(difference) ? one.localeCompare(other) : difference);
}

function sortBy(header) {
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const each of header.parentElement.children) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const body = header.closest("table").tBodies[0];
  const value = (row) => row.cells[header.cellIndex].dataset.value;
  const rows = Array.from(body.rows).sort((one, other) => compare(value(one), value(other), direction));
  body.append(...rows);
}

for (const header of document.querySelectorAll(".sortable th")) {
  header.firstElementChild.addEventListener("click", () => sortBy(header));
}
startGallery();
