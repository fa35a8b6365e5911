"""Python imports this at its start where tests/child is on PYTHONPATH: see stand_in.environment."""

import stand_in

stand_in.switch_on()
