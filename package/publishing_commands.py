"""The command `tgdfer push`."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from tgdfer.console import hide_loading_bars, print_once
from tgdfer.option_groups import with_groups
from tgdfer.training.errors import UserError

PUSH_EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "tgdfer push runs/first user/name --dry-run\n\n"
    "tgdfer push runs/first user/name --private --no-pictures\n\n"
    "tgdfer push runs/first organisation/name --license cc-by-nc-4.0 --tag faces --create-pr\n\n"
    "tgdfer push clips/ user/clips --dataset --private"
)


@dataclass(frozen=True)
class ContentOptions:
    """What is published."""

    pictures: Annotated[
        bool,
        typer.Option(
            help="Upload the pictures and example clips of the run; they show faces", rich_help_panel="Contents"
        ),
    ] = True
    adapter: Annotated[
        bool,
        typer.Option(
            "--adapter", help="Publish only LoRA and the new weights, without the CLIP", rich_help_panel="Contents"
        ),
    ] = False
    space: Annotated[
        bool,
        typer.Option(
            "--space",
            help="Also publish a Space of the same name, on which people try the model with their own clips",
            rich_help_panel="Contents",
        ),
    ] = False
    dataset: Annotated[
        bool,
        typer.Option(
            "--dataset",
            help="RUN is a folder of clips (SPLIT/LABEL/CLIP.mp4), which is published as a data set",
            rich_help_panel="Contents",
        ),
    ] = False

    def check(self, options: "RepositoryOptions") -> None:
        """Checks that the options can be combined."""
        if self.space and (options.revision or "").startswith("refs/"):
            raise UserError(
                f"--space cannot be combined with --revision {options.revision}, because the Space shows the published"
                " model; leave out one of them."
            )
        if self.dataset and (self.adapter or self.space or not self.pictures):
            raise UserError(
                "--dataset publishes clips; it cannot be combined with --adapter, --space or --no-pictures."
            )


@dataclass(frozen=True)
class RepositoryOptions:
    """Where it is published, and what the repository says about it."""

    private: Annotated[
        bool, typer.Option("--private", help="Create a private repository", rich_help_panel="Repository")
    ] = False
    license: Annotated[
        str | None,
        typer.Option(help='License, by its id on the Hub such as "cc-by-nc-4.0"', rich_help_panel="Repository"),
    ] = None
    tag: Annotated[
        list[str],
        typer.Option(help="Tag of the repository. Repeat the option for each tag", rich_help_panel="Repository"),
    ] = field(default_factory=list)
    message: Annotated[str | None, typer.Option(help="Summary of the commit", rich_help_panel="Repository")] = None
    revision: Annotated[
        str | None,
        typer.Option(
            help="Branch, which is created if it does not exist, or pull request such as refs/pr/1",
            rich_help_panel="Repository",
        ),
    ] = None
    create_pr: Annotated[
        bool,
        typer.Option(
            "--create-pr", help="Open a pull request instead of changing the branch", rich_help_panel="Repository"
        ),
    ] = False

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of the functions of `tgdfer.model_card.publish`."""
        values = asdict(self)
        values["tags"] = values.pop("tag")
        return {name: value for name, value in values.items() if value is not None}


@with_groups
def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run or of a model, or with --dataset of clips")],
    repository: Annotated[
        str, typer.Argument(help="Hub repository; it is created if it does not exist", metavar="USER/NAME")
    ],
    *,
    contents: ContentOptions,
    options: RepositoryOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files without uploading them", rich_help_panel="Run")
    ] = False,
) -> None:
    """Publish a model on the Hub with its code, model card and pictures, in one commit.

    Files of earlier pushes that are no longer part of the model are deleted. What people have edited in the card on
    the Hub is kept.
    """
    contents.check(options)
    hide_loading_bars()
    from tgdfer.model_card import publish
    from tgdfer.model_card.hub.adapter_files import require_base_on_hub

    if contents.adapter and contents.space:
        require_base_on_hub(run)
    arguments = {**options.arguments(), "dry_run": dry_run}
    if contents.dataset:
        url = publish.publish_dataset(run, repository, **arguments)
    else:
        model: dict[str, Any] = {"pictures": contents.pictures, "adapter": contents.adapter}
        url = publish.publish(run, repository, **arguments, **model)
    if not dry_run:
        print_once(f"Published: {url}")
    if contents.space:
        # Licence, message and revision are those of the model.
        own = {name: arguments[name] for name in ("private", "tags", "create_pr", "dry_run")}
        url = publish.publish_space(repository, **own)
        if not dry_run:
            print_once(f"Published the Space: {url}")
            if options.private:
                print_once("Add a token that may read the model to the settings of the Space, as the secret HF_TOKEN.")
