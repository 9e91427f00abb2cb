"""A grid in the editor: from a right-click to cells that fill in and a sheet."""

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.browser]


@pytest.mark.timeout(300)  # the first cell waits for the worker to load its libraries
def test_a_grid_from_the_menu_of_a_widget(page: Page):
    page.locator('[data-id="3"] .widget', has_text="cfg").first.click(
        button="right", position={"x": 6, "y": 6}
    )
    page.get_by_role("menuitem", name="Use cfg as grid axis").click()
    dialog = page.get_by_role("dialog", name="Grid")
    expect(
        dialog.get_by_role("combobox", name="Columns").locator("option:checked")
    ).to_contain_text("cfg")
    dialog.get_by_label("Values of the columns").fill("1-3 (+2)")
    dialog.get_by_role("combobox", name="Rows").select_option(label="KSampler (3): steps")
    dialog.get_by_label("Values of the rows").fill("1, x")
    expect(dialog.get_by_role("status")).to_contain_text("steps of KSampler (3) is")
    expect(dialog.get_by_role("button", name="Make the grid")).to_be_disabled()
    dialog.get_by_label("Values of the rows").fill("1, 2")
    expect(dialog.get_by_role("status")).to_have_text("4 cells (2 × 2)")
    dialog.get_by_role("button", name="Make the grid").click()
    expect(dialog.locator("td img")).to_have_count(4, timeout=200_000)
    expect(dialog.get_by_role("status")).to_contain_text("Done", timeout=60_000)
    dialog.locator("td button").nth(1).click()
    expect(page.get_by_role("dialog", name="Picture")).to_contain_text("cfg 3, steps 1")
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Show the sheet").click()
    expect(page.get_by_role("dialog", name="Picture")).to_contain_text("grid_sheet")
