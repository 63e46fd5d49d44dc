"""ImageNet as the ADM evaluator has it: what FID, sFID, precision and recall compare with."""

from skipdit_cli.metrics import Asset

REFERENCE = "{dataset}"  # of what was trained on ImageNet at 256 pixels, the batch's name
BATCH = Asset(
    name="imagenet256",
    what="ADM's reference batch of ImageNet at 256 px, with statistics of the whole set",
    source="https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/"
    "imagenet/256/VIRTUAL_imagenet256_labeled.npz",
    file="VIRTUAL_imagenet256_labeled.npz",
    size=2_037_122_530,
    # Guided-diffusion gives none; git-lfs pointers of independent copies agree, such as that
    # of ruizegao/efficient-dit and the hub's xiangzai/reference.
    digest="b32732719497e42660a9affb4a966068cba0855ac449b82015e34ec376d20758",
    licence="ImageNet terms of access",  # of the images; OpenAI's statistics of them are MIT
)
