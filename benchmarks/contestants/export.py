"""The model that `dvc repro` left, in every format that is measured, in one folder."""

import argparse
import shutil
from pathlib import Path

import numpy as np

from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import keras_file
from lenet5.system import settings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    paths = Paths.find()
    settings.apply(paths)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    images = np.asarray(dataset.load(paths.raw).splits["test"].images)
    np.save(folder / "images.npy", images)
    shutil.copyfile(paths.model, folder / "model.keras")
    with quiet_libraries():
        import tensorflow as tf

        from lenet5.model import onnx_export
        from lenet5.tracking import model_package

        model = keras_file.load(paths.model)
        onnx = folder / "model.onnx"
        onnx.write_bytes(onnx_export.export(model))
        (folder / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
        model_package.write(folder / "pyfunc", paths.model, onnx, images[:3], {})


if __name__ == "__main__":
    main()
