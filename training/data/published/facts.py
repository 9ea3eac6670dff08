"""The published data sets, with the numbers of their papers and lists."""

from tgdfer.training.data.published import by_folder, by_name, numbered
from tgdfer.training.data.published.listing import PublishedDataset


def _counts(classes: tuple[str, ...], train: tuple[int, ...], test: tuple[int, ...]) -> dict[str, dict[str, int]]:
    return {split: dict(zip(classes, counts, strict=True)) for split, counts in {"train": train, "test": test}.items()}


PUBLISHED = {
    dataset.name: dataset
    for dataset in (
        PublishedDataset(
            "dfew",
            "DFEW",
            "Clip/clip_224x224/NNNNN/ and EmoLabel_DataSplit/",
            numbered.DFEW_CLASSES,
            11_697,
            ((9356, 2341), (9356, 2341), (9357, 2340), (9358, 2339), (9361, 2336)),
            5,
            numbered.dfew_lists,
            numbered.dfew_clips,
            _counts(
                numbered.DFEW_CLASSES,
                (1956, 1515, 2135, 1738, 1175, 116, 721),
                (489, 379, 534, 435, 294, 29, 181),
            ),
        ),
        PublishedDataset(
            "ferv39k",
            "FERV39k",
            "2_ClipsforFaceCrop/SCENE/EMOTION/NNNN/ and 4_setups/All_scenes/",
            by_folder.SEVEN_CLASSES,
            38_935,
            ((31_088, 7847),),
            1,
            by_folder.ferv39k_lists,
            by_folder.ferv39k_clips,
            _counts(
                by_folder.SEVEN_CLASSES,
                (5854, 5523, 7790, 5906, 2502, 1833, 1680),
                (1473, 1393, 1958, 1487, 638, 467, 431),
            ),
        ),
        PublishedDataset(
            "mafw",
            "MAFW",
            "data/faces/NNNNN/ and Train_Test_Set/single/no_caption/",
            numbered.MAFW_CLASSES,
            9172,
            ((7333, 1839), (7335, 1837), (7339, 1833), (7340, 1832), (7341, 1831)),
            5,
            numbered.mafw_lists,
            numbered.mafw_clips,
        ),
        PublishedDataset(
            "afew",
            "AFEW",
            "train/EMOTION/CLIP/ and validation/EMOTION/CLIP/",
            by_folder.SEVEN_CLASSES,
            1156,
            ((773, 383),),
            1,
            by_folder.afew_lists,
            by_folder.afew_clips,
        ),
        PublishedDataset(
            "crema_d",
            "CREMA-D",
            "ACTOR_SENTENCE_EMOTION_LEVEL.flv",
            by_name.CREMA_D_CLASSES,
            7442,
            (),
            5,
            by_name.crema_d_lists,
            by_name.crema_d_clips,
        ),
        PublishedDataset(
            "ravdess",
            "RAVDESS",
            "Actor_XX/02-01-EE-II-SS-RR-AA.mp4",
            by_name.RAVDESS_CLASSES,
            1440,
            ((1200, 240),) * 6,
            6,
            by_name.ravdess_lists,
            by_name.ravdess_clips,
        ),
    )
}
