"""A run's masks end where SAM's masks end: ``python examples/sam_refine.py masks --out refined``.

SAM 2 or SAM 3, by Hugging Face transformers, is asked for each label of each image with the prompts of ``clipes
prompts``, and its best answer is asked about again, as in SAMRefiner (Lin et al., ICLR 2025; its code, its constants).
The answers are written as regions, which vote on the run's masks. It must have its maps (``--save-patch-cams``).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

import clipes
from clipes._version import install_hint
from clipes.cli import main as run_clipes
from clipes.export.prompts import write_prompts
from clipes.io.coco_rle import decode_rle
from clipes.io.images import open_image
from clipes.regions import region_ids
from clipes.regions.prompts import prompt

STRENGTH, GAMMA, ROUNDS = 30.0, 4.0, 5  # the defaults of SAMRefiner's code


def mask_prompt(mask: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """The logits (1, 1, *size) of a mask (H, W) bool: less near its edge, where it is least to be trusted."""
    distance = ndimage.distance_transform_edt(mask)
    near = np.exp(-((distance - distance.max()) ** 2) / max(mask.sum() / GAMMA, 1)) * mask
    both = torch.from_numpy(np.stack([2.0 * mask - 1, near]))[None].float()
    sign, near = torch.nn.functional.interpolate(both, size, mode="bilinear", align_corners=False)[0]
    return (torch.where(sign > 0, STRENGTH, -STRENGTH) * torch.where(near > 0, near, 1.0))[None, None]


class Sam:
    """SAM 2 or SAM 3 of Hugging Face: a name or a folder of weights."""

    def __init__(self, name: str, device: str) -> None:
        try:
            import transformers
        except ImportError as error:
            raise SystemExit(f"SAM needs Hugging Face transformers: {install_hint('sam')}") from error
        self.model = transformers.AutoModelForMaskGeneration.from_pretrained(name).to(device).eval()
        processors = {"Sam2Model": "Sam2Processor", "Sam3TrackerModel": "Sam3TrackerProcessor"}
        if (kind := type(self.model).__name__) not in processors:
            raise SystemExit(f"{name} is a {kind}; give a SAM 2 or SAM 3, such as facebook/sam2.1-hiera-large")
        self.processor = getattr(transformers, processors[kind]).from_pretrained(name)

    @torch.inference_mode()
    def refine(self, image: Image.Image, prompts: list[dict], rounds: int) -> list[np.ndarray]:
        """The masks (H, W) bool of the objects of an image; the mask that was asked about where the answer is empty."""
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"]
        embeddings = self.model.get_image_embeddings(pixels.to(self.model.device))
        masks = []
        for one in prompts:
            mask, box, points = decode_rle(one["mask"]), one["box"], one["points"]
            for _ in range(rounds):
                mask = self.ask(embeddings, mask, box, points)
                box, *found = prompt(mask)
                points = [point for point in found if point is not None]
            masks.append(mask)
        return masks

    def ask(self, embeddings: list, mask: np.ndarray, box: Sequence[int], points: Sequence) -> np.ndarray:
        """The best of three answers for one object; ``points`` are one of it and, if there is one, one outside."""
        asked = self.processor(
            input_points=[[[list(point) for point in points]]],
            input_labels=[[[1, 0][: len(points)]]],
            input_boxes=[[list(box)]],
            original_sizes=[list(mask.shape)],
            return_tensors="pt",
        )
        given = {name: asked[name] for name in ("input_points", "input_labels", "input_boxes")}
        given["input_masks"] = mask_prompt(mask, self.model.prompt_encoder.mask_input_size)
        given = {name: value.to(self.model.device) for name, value in given.items()}
        answer = self.model(image_embeddings=embeddings, multimask_output=True, **given)
        (sized,) = self.processor.post_process_masks(answer.pred_masks.cpu(), [list(mask.shape)])
        best = sized[0, answer.iou_scores[0, 0].argmax().item()].numpy()
        return best if best.any() else mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="the --out of a `clipes generate --save-patch-cams`")
    parser.add_argument(
        "--out", type=Path, required=True, help="the new masks; beside it OUT-prompts.json, OUT-regions"
    )
    parser.add_argument("--model", default="facebook/sam2.1-hiera-large", help="or facebook/sam3, or a folder")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often SAM is asked about an object")
    parser.add_argument("--instances", action="store_true", help="ask about each connected part of a label by itself")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    prompts, regions = (options.out.with_name(options.out.name + end) for end in ("-prompts.json", "-regions"))
    with clipes.open_run(options.folder) as run:
        if not run.has("cams"):
            raise SystemExit(f"{options.folder} has no maps; make it with `clipes generate --save-patch-cams`")
        write_prompts(options.folder, prompts, instances=options.instances)
        images, sam = run.images(run.source()), Sam(options.model, options.device)
    for row in tqdm(json.loads(prompts.read_text())["images"], disable=None):
        masks = sam.refine(open_image(images[row["id"]]), row["prompts"], options.rounds)
        place = regions / f"{row['id']}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(region_ids(masks, tuple(row["size"])).astype(np.uint16)).save(place)
    raise SystemExit(run_clipes(["finalize", options.folder, "--regions", str(regions), "--out", str(options.out)]))


if __name__ == "__main__":
    main()
