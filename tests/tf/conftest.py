"""Keeps TensorFlow on the processor and quiet, as training code on a build server would."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
