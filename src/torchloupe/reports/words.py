"""What a report says of how its pictures and numbers were made."""

from torchloupe.reports.plan import Amount


def sentences(amount: Amount, samples: int, has_data: bool) -> list[tuple[str, str]]:
    """Return for each kind of picture and number how it was made.

    >>> sentences(Amount(), 8, True)[0][0]
    'Sample pictures'
    """
    of = "test pictures drawn by seed" if has_data else "the free pictures that come with torchloupe"
    looked = (
        f"up to {amount.pictures:,} test pictures" if has_data else "the sample pictures only: no data were at hand"
    )
    return [
        ("Sample pictures", f"{samples} {of}, unless others were named."),
        (
            "Activation",
            "A channel's spatial mean of the layer's output as it stands; of the output, the class's logit.",
        ),
        (
            "What drives a unit most",
            f"From noise with the spectrum and colours of the data, by {amount.steps} steps of Adam on Fourier "
            f"coefficients with decorrelated colours (Olah et al. 2017), shifted, turned and scaled a little at every "
            f"step; {amount.copies} from different noise. ×: activation over that of the strongest test picture.",
        ),
        (
            "Top examples",
            f"Pictures with the strongest position of the unit's map, among {looked}; dimmed: what that position "
            "cannot see, by the exact receptive field.",
        ),
        (
            "Deconvolution",
            "Walked back from one position (units) or from the strongest tenth of every map (layers), rectifying the "
            "signal at every ReLU (Zeiler & Fergus 2014); guided also where the input was not positive (Springenberg "
            "et al. 2015); gradient: the plain derivative.",
        ),
        (
            "Inversion",
            f"The least ‖Φ(x) − Φ₀‖² / ‖Φ₀‖² plus total variation, from grey, {amount.inversion_steps} passes of "
            "L-BFGS (Mahendran & Vedaldi 2015). PSNR to the original.",
        ),
        (
            "Without a unit",
            "Accuracy when the channel is set to zero everywhere, behind its block's rectifier (the module named with "
            "the layer), less accuracy with all channels; the pictures it was measured on are said there, too, as many "
            "of each class.",
        ),
        ("Selectivity", "η², the share of a unit's variance over pictures that lies between classes, 0 to 1."),
        ("Random weights", "The same network, every weight drawn anew by seed; nothing else differs."),
    ]
