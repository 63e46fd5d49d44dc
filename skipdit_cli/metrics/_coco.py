"""COCO's val2014 images, those that the prompt list `coco` describes."""

from skipdit_cli.metrics import Asset

REFERENCE = "coco-val2014"
IMAGES = Asset(
    name="coco-val2014",
    what="COCO's val2014 images",
    source="http://images.cocodataset.org/zips/val2014.zip",
    file="val2014.zip",
    size=6_645_013_297,
    # TensorFlow Datasets, url_checksums/coco.txt; torchvision's prototypes have the same.
    digest="fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
    licence="terms of use of Flickr",
)
