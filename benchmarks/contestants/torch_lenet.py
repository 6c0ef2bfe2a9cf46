"""LeNet-5 in PyTorch with the notebook's recipe, written to be fast on a CPU.

`torch.compile` is not used: its steps took nearly twice as long here, after 12 seconds of compiling.
"""

from benchmarks.contestants.program import digits, options, train


def main() -> None:
    arguments = options().parse_args()
    import torch  # type: ignore[import-not-found]
    from torch import nn
    from torch.nn import functional  # type: ignore[import-not-found]

    torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(arguments.seed)
    data = digits(arguments.images)

    def pixels(images: object) -> torch.Tensor:
        rescaled = torch.as_tensor(images).unsqueeze(1).float() / 255  # (N, 1, 28, 28)
        return rescaled.contiguous(memory_format=torch.channels_last)

    # whole tensors and an index: a DataLoader costs more than LeNet-5's step
    x_train, x_test = pixels(data.train_images), pixels(data.test_images)
    y_train = torch.as_tensor(data.train_labels).long()
    y_test = torch.as_tensor(data.test_labels).long()

    model = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, 10),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)  # Keras' defaults

    def step(rows: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x_train[rows]), y_train[rows]).backward()
        optimizer.step()

    def test_accuracy() -> float:
        with torch.inference_mode():
            right = [
                (model(images).argmax(1) == labels).sum()
                for images, labels in zip(x_test.split(1000), y_test.split(1000), strict=True)
            ]
        return float(sum(right)) / len(y_test)

    def epoch() -> None:
        for rows in torch.randperm(len(x_train)).split(arguments.batch_size):
            step(rows)

    train(arguments, len(x_train), sum(each.numel() for each in model.parameters()), epoch, test_accuracy)


if __name__ == "__main__":
    main()
