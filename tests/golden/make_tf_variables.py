"""Make `tf_variables/`: a checkpoint of many types and partitioned variables, by TensorFlow itself.

    pip install tensorflow-cpu==2.21.0     # in an environment of its own
    python tests/golden/make_tf_variables.py

Not part of any test: they read what it wrote, and compare it with `expected.npz`, the values that
TensorFlow reads back.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).with_name("tf_variables")
TYPES = [
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]
v1 = tf.compat.v1
rng = np.random.default_rng(0)

with tf.Graph().as_default():
    for name in TYPES:
        value = (rng.normal(size=(3, 5)) * 50).astype(name)
        v1.get_variable(f"types/{name}", initializer=value, use_resource=False)
    v1.get_variable("types/bfloat16", initializer=tf.cast(rng.normal(size=(3, 5)), tf.bfloat16))
    v1.get_variable("scalar", initializer=np.float32(3.5))
    v1.get_variable("empty", initializer=np.zeros((0, 4), np.float32))
    v1.get_variable("global_step", initializer=np.int64(123456789))
    for name, parts, axis, dtype in (
        ("rows", 3, 0, tf.float32),
        ("columns", 70, 1, tf.float32),
        ("half", 2, 0, tf.bfloat16),
    ):
        partitioner = v1.fixed_size_partitioner(parts, axis=axis)
        with v1.variable_scope(name, partitioner=partitioner):
            v1.get_variable(
                "table",
                shape=(7, 70 if name == "columns" else 4),
                dtype=dtype,
                initializer=v1.random_normal_initializer(seed=1),
                use_resource=False,
            )
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        prefix = v1.train.Saver().save(session, str(FOLDER / "model.ckpt"), write_meta_graph=False)

reader = tf.train.load_checkpoint(prefix)
values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
values = {n: v.astype(np.float32) if v.dtype == tf.bfloat16 else v for n, v in values.items()}
(FOLDER / "checkpoint").unlink()  # it names a path of this machine
np.savez_compressed(FOLDER / "expected.npz", **values)
