"""Who sees a training: files in its folder, TensorBoard, Weights and Biases, the terminal."""
